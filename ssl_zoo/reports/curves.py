"""Curves of runs from their log.jsonl: what is in a log, means over seeds, panels of curves."""

from pathlib import Path

import numpy as np

from ssl_zoo.errors import ConfigError, nearest
from ssl_zoo.evaluation.results import rows_of
from ssl_zoo.reports.style import GREY, colour, panels, shortened, styled

SHOWN = ('train/loss', 'val/knn', 'train/lr', 'train/decay', 'val/rankme', 'val/feature_std')
# What a log holds that tells of a run's course, with the unit that an axis shows.
KEYS = {
    'train/loss': 'loss',
    'val/knn': 'k-NN on val, %',
    'train/lr': 'learning rate',
    'train/decay': 'EMA decay',
    'val/rankme': 'RankMe, dimensions',
    'val/feature_std': 'feature std of embeddings',
    'train/feature_std': 'feature std of projections',
}
LINES = ('-', '--', '-.', ':')
Log = list[dict]


def read_log(run: str | Path) -> Log:
    """The rows of a run's log.jsonl, given its folder or the file; of a step that was logged twice, the later.

    Raises:
        ConfigError: there is none, or nothing in it.
    """
    path = Path(run)
    path = path / 'log.jsonl' if path.is_dir() or path.suffix != '.jsonl' else path
    try:
        rows = rows_of(path)
    except OSError as error:
        raise ConfigError(f'{path} cannot be read: {error}') from None
    if not rows:
        raise ConfigError(
            f'there is no curve in {path}; give the work directory of a run, which has a log.jsonl'
        )
    return rows


def series(log: Log, key: str) -> dict[float, float]:
    """Epoch -> value of a key, without the rows that lack it or hold no finite number."""
    found = {}
    for row in log:
        value, epoch = row.get(key), row.get('epoch')
        if isinstance(value, int | float) and isinstance(epoch, int | float) and np.isfinite(value):
            found[epoch] = value
    return dict(sorted(found.items()))


def mean_over(lines: list[dict[float, float]]) -> dict[float, float]:
    """The mean of several series at the epochs that all of them have."""
    common = sorted(set.intersection(*(set(line) for line in lines))) if lines else []
    return {epoch: float(np.mean([line[epoch] for line in lines])) for epoch in common}


def keys_of(logs: list[Log]) -> list[str]:
    """The keys with numbers in any of the logs, those of KEYS first."""
    found = {key for log in logs for row in log for key in row if '/' in key}
    return [key for key in KEYS if key in found] + sorted(found - set(KEYS))


def find_keys(asked: list[str], logs: list[Log]) -> list[str]:
    """The keys of the logs that are meant: written in full, or without train/ or val/ where that is enough.

    Raises:
        ConfigError: no log has one of them, or it may be two.
    """
    existing, found = keys_of(logs), []
    for name in asked:
        meant = (
            [name]
            if name in existing
            else [key for key in existing if key.split('/', 1)[1] == name]
        )
        if not meant:
            raise ConfigError(f'no run has logged {name!r}: {nearest(name, existing)}')
        if len(meant) > 1:
            raise ConfigError(f'{name!r} may be {" or ".join(meant)}; write it in full')
        found += [key for key in meant if key not in found]
    return found


@styled
def curves(groups: dict[str, list[Log]], keys: list[str], columns: int = 2, width: float = 4.4):
    """A panel for each key, a colour and a kind of line for each group: its mean thick, its runs thin.

    Args:
        groups: the logs by label, several seeds each; columns: of panels; width: of the figure in inches.
    Returns:
        matplotlib Figure.
    """
    figure, axes = panels(
        len(keys),
        columns,
        width,
        height=0.72 * width / columns,
        legend=len(groups) if len(groups) > 1 else 0,
    )
    shown = {}
    for axis, key in zip(axes, keys, strict=True):
        for i, (label, logs) in enumerate(groups.items()):
            lines = [line for log in logs if (line := series(log, key))]
            look = dict(color=colour(i), linestyle=LINES[i % len(LINES)])
            if len(lines) > 1:
                for line in lines:
                    axis.plot(list(line), list(line.values()), **look, linewidth=0.6, alpha=0.45)
            mean = mean_over(lines)
            marker = dict(marker='o', markersize=3) if len(mean) < 15 else {}
            if mean:
                [shown[label]] = axis.plot(
                    list(mean), list(mean.values()), **look, **marker, linewidth=1.6
                )
        axis.set_title(KEYS.get(key, key), loc='left')
    if len(groups) > 1:
        figure.legend(
            list(shown.values()),
            list(shown),
            loc='outside lower center',
            ncols=min(len(shown), max(1, int(width // 1.6))),
        )
    return figure


@styled
def beside_the_others(groups: dict[str, list[Log]], key: str, width: float = 4.4):
    """A panel for each group with its mean in colour and those of all the others in grey, on common axes: readable for any number."""
    columns = min(4, len(groups)) if len(groups) != 3 else 3
    figure, axes = panels(
        len(groups), columns, width, height=1.0 if columns > 2 else 1.5, sharey=True
    )
    means = {
        label: mean_over([line for log in logs if (line := series(log, key))])
        for label, logs in groups.items()
    }
    for axis, (label, own) in zip(axes, means.items(), strict=True):
        for other in means.values():
            axis.plot(list(other), list(other.values()), color=GREY, linewidth=0.6)
        axis.plot(list(own), list(own.values()), color=colour(0), linewidth=1.8)
        axis.set_title(shortened(label, 13 if columns > 2 else 30), loc='left')
    figure.supylabel(KEYS.get(key, key), fontsize='medium')
    return figure
