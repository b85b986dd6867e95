"""Results rows: one JSON object per line of results.jsonl, so that a figure never travels without how it was made."""
import json
from pathlib import Path


def write_row(work_dir: str | Path, *rows: dict) -> None:
    """Append results to ``work_dir/results.jsonl``, all of them or none.

    Args:
        rows: metric, value, n, protocol, data set and manifest, checkpoint, config, seed, versions, seconds of each.
    """
    path = Path(work_dir, 'results.jsonl')
    text = ''.join(json.dumps(row) + '\n' for row in rows).encode()
    torn = path.exists() and path.read_bytes()[-1:] not in (b'', b'\n')
    with open(path, 'ab', buffering=0) as file:
        file.write(b'\n' * torn + text)                              # one call; a line that a crash has left unfinished stays alone
