"""Curves of any runs in one picture (tools/plot.py)."""

from pathlib import Path

from ssl_zoo.errors import ConfigError
from ssl_zoo.reports.curves import SHOWN, curves, find_keys, keys_of, read_log, series
from ssl_zoo.reports.style import save

ENDINGS = ('.png', '.svg', '.pdf')


def labels_of(runs: list[str]) -> list[str]:
    """A name for each run: the last parts of its path, as many as it takes to tell them all apart.

    Raises:
        ConfigError: the same run is given twice.
    """
    paths = [Path(run).resolve() for run in runs]
    paths = [path.parent if path.name == 'log.jsonl' else path for path in paths]
    twice = next((path for path in paths if paths.count(path) > 1), None)
    if twice:
        raise ConfigError(f'{twice} is given twice; give each run once')
    for n in range(1, max(len(path.parts) for path in paths) + 1):
        labels = ['/'.join(path.parts[-n:]) for path in paths]
        if len(set(labels)) == len(labels):
            return labels
    return [str(path) for path in paths]


def plot(runs: list[str], out: str | Path, keys: list[str] | None = None) -> tuple[Path, list[str]]:
    """Draw the curves of runs side by side.

    Args:
        runs: work directories, or files log.jsonl; out: the picture; keys: None for those of SHOWN that were logged.
    Returns:
        The path of the picture, and sentences on what a run lacks.
    Raises:
        ConfigError: a run without a log, an unknown key or ending, a file that cannot be written.
    """
    out = Path(out)
    if out.suffix.lower() not in ENDINGS:
        raise ConfigError(f'--out is {str(out)!r}, but it must end in {", ".join(ENDINGS)}')
    labels, logs = labels_of(runs), [read_log(run) for run in runs]
    existing = keys_of(logs)
    keys = find_keys(keys, logs) if keys else [key for key in SHOWN if key in existing]
    if not keys:
        raise ConfigError(
            f'none of {", ".join(SHOWN)} was logged; name what to draw with --keys. Allowed: '
            f'{", ".join(existing) or "nothing"}.'
        )
    notes = [
        f'{label} has no {key}'
        for label, log in zip(labels, logs, strict=True)
        for key in keys
        if not series(log, key)
    ]
    columns = min(3, len(keys))
    groups = {label: [log] for label, log in zip(labels, logs, strict=True)}
    drawn = curves(groups, keys, columns, width=3.6 * columns if columns > 1 else 5.5)
    return save(drawn, out), notes
