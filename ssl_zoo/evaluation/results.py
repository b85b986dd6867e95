"""Results rows: results.jsonl has one JSON object per line, a value and how it was measured."""

import json
from collections.abc import Iterator
from pathlib import Path

from ssl_zoo.storage.atomic import append_lines
from ssl_zoo.storage.reading import JSON_BYTES, parse_json, read_regular

ROWS_BYTES = 2**30  # largest file of rows


def write_row(work_dir: str | Path, *rows: dict) -> None:
    """Append rows to ``work_dir/results.jsonl``, all of them or none.

    Args:
        work_dir: folder of the run.
        rows: each with metric, value, n, protocol (a dict of plain values), chosen (the values
            chosen on the hold-out), data set and manifests, checkpoint, config, seed, versions and
            seconds.
    """
    lines = ''.join(json.dumps(row) + '\n' for row in rows)
    append_lines(Path(work_dir, 'results.jsonl'), lines)


def rows_of(path: Path) -> list[dict]:
    """Return the rows of a file of JSON lines, without damaged lines; none if there is no file.

    Raises:
        OSError: the file cannot be read, is not a regular file, or is larger than ``ROWS_BYTES``.
    """
    try:
        return [row for _, row in numbered_rows(path) if isinstance(row, dict)]
    except (FileNotFoundError, NotADirectoryError):
        return []


def numbered_rows(path: Path) -> Iterator[tuple[int, dict | str]]:
    """Yield the number of each line that is not empty, and its row; of a damaged line, the reason.

    Raises:
        OSError: as ``rows_of``; also if there is no file.
    """
    for number, line in enumerate(read_regular(path, ROWS_BYTES).split(b'\n'), 1):
        if not line.strip():
            continue
        try:
            if len(line) > JSON_BYTES:
                raise ValueError('too long')
            row = parse_json(line)
        except ValueError as error:
            row = str(error)
        else:
            row = row if isinstance(row, dict) else 'not a row'
        yield number, row
