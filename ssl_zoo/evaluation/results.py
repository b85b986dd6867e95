"""Results rows: one JSON object per line of results.jsonl, so that a figure never travels without how it was made."""
import json
from pathlib import Path


def write_row(work_dir: str | Path, row: dict) -> None:
    """Append one result to ``work_dir/results.jsonl``.

    Args:
        row: metric, value, n, protocol, data set and manifest, checkpoint, config, seed, versions, seconds.
    """
    with open(Path(work_dir, 'results.jsonl'), 'a') as file:
        file.write(json.dumps(row) + '\n')
