"""Results rows: results.jsonl has one JSON object per line, a value and how it was measured."""

import json
from contextlib import suppress
from pathlib import Path

from ssl_zoo.storage.atomic import append_lines


def write_row(work_dir: str | Path, *rows: dict) -> None:
    """Append rows to ``work_dir/results.jsonl``, all of them or none.

    Args:
        work_dir: folder of the run.
        rows: each with metric, value, n, protocol (a dict of plain values), chosen (the values
            chosen on the hold-out), data set and manifest, checkpoint, config, seed, versions and
            seconds.
    """
    lines = ''.join(json.dumps(row) + '\n' for row in rows)
    append_lines(Path(work_dir, 'results.jsonl'), lines)


def rows_of(path: Path) -> list[dict]:
    """Return the rows of a file of JSON lines, without lines that a crash left unfinished."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_text(errors='replace').splitlines():
        with suppress(ValueError):
            rows.append(json.loads(line))
    return [row for row in rows if isinstance(row, dict)]
