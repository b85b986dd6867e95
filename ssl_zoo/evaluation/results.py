"""Results rows: one JSON object per line of results.jsonl, so that a figure never travels without how it was made."""

import json
from contextlib import suppress
from pathlib import Path

from ssl_zoo.storage.atomic import append_lines


def write_row(work_dir: str | Path, *rows: dict) -> None:
    """Append results to ``work_dir/results.jsonl``, all of them or none.

    Args:
        rows: metric, value, n, protocol, data set and manifest, checkpoint, config, seed, versions, seconds of each.
    """
    append_lines(Path(work_dir, 'results.jsonl'), ''.join(json.dumps(row) + '\n' for row in rows))


def rows_of(path: Path) -> list[dict]:
    """The rows of a file of JSON lines; lines that a crash has left unfinished are passed over."""
    rows = []
    for line in path.read_text(errors='replace').splitlines() if path.exists() else []:
        with suppress(ValueError):
            rows.append(json.loads(line))
    return [row for row in rows if isinstance(row, dict)]
