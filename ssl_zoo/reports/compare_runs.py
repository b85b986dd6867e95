"""Curves of several runs in one figure (tools/plot.py)."""

import os
from pathlib import Path

from ssl_zoo.errors import ConfigError
from ssl_zoo.printable import printable
from ssl_zoo.reports.curves import (
    DEFAULT_KEYS,
    find_keys,
    logged_keys,
    plot_curves,
    read_log,
    series,
)
from ssl_zoo.reports.style import save_figure

SUFFIXES = ('.png', '.svg', '.pdf')


def run_labels(runs: list[str]) -> list[str]:
    """Return a label for each run: the last parts of its path, as few as make all labels differ.

    Args:
        runs: work directories, or files log.jsonl.

    Raises:
        ConfigError: a run is given twice.
    """
    paths = [Path(os.path.realpath(run)) for run in runs]
    paths = [path.parent if path.name == 'log.jsonl' else path for path in paths]
    repeated = next((path for path in paths if paths.count(path) > 1), None)
    if repeated:
        raise ConfigError(f'{repeated} is given twice; give each run once')
    longest = max(len(path.parts) for path in paths)
    for n in range(1, longest + 1):
        labels = ['/'.join(path.parts[-n:]) for path in paths]
        if len(set(labels)) == len(labels):
            return [printable(label) for label in labels]
    return [printable(str(path)) for path in paths]


def plot_runs(
    runs: list[str], out: str | Path, keys: list[str] | None = None
) -> tuple[Path, list[str]]:
    """Plot the curves of runs side by side.

    Args:
        runs: work directories, or files log.jsonl.
        out: a .png, .svg or .pdf file.
        keys: log keys; None for those of ``DEFAULT_KEYS`` that were logged.

    Returns:
        The path of the figure, and a sentence for each key that a run lacks.

    Raises:
        ConfigError: a run has no log, a key or the suffix of ``out`` is unknown, or ``out`` cannot
            be written.
    """
    out = Path(out)
    if out.suffix.lower() not in SUFFIXES:
        raise ConfigError(f'--out is {str(out)!r}, but it must end in {", ".join(SUFFIXES)}')
    labels = run_labels(runs)
    logs = [read_log(run) for run in runs]
    existing_keys = logged_keys(logs)
    if keys:
        keys = find_keys(keys, logs)
    else:
        keys = [key for key in DEFAULT_KEYS if key in existing_keys]
    if not keys:
        raise ConfigError(
            f'none of {", ".join(DEFAULT_KEYS)} was logged; name the keys to draw with --keys. '
            f'Allowed: {", ".join(existing_keys) or "nothing"}.'
        )
    notes = [
        f'{label} has no {key}'
        for label, log in zip(labels, logs, strict=True)
        for key in keys
        if not series(log, key)
    ]
    columns = min(3, len(keys))
    width = 3.6 * columns if columns > 1 else 5.5
    groups = {label: [log] for label, log in zip(labels, logs, strict=True)}
    figure = plot_curves(groups, keys, columns, width)
    return save_figure(figure, out), notes
