"""Curves of runs from their log.jsonl: reading a log, means over seeds, panels of curves."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ssl_zoo.errors import ConfigError, nearest
from ssl_zoo.evaluation.results import rows_of
from ssl_zoo.reports.style import (
    LIGHT_GREY,
    colour,
    epoch_panels,
    legend_columns,
    shorten,
    styled,
)
from ssl_zoo.studies.records import is_number

DEFAULT_KEYS = (
    'train/loss',
    'val/knn',
    'train/lr',
    'train/decay',
    'val/rankme',
    'val/feature_std',
    'val/lidar',
    'val/alpha_req',
    'val/alignment',
    'val/uniformity',
)
# Log keys that a figure may show, with the titles of their panels.
KEY_TITLES = {
    'train/loss': 'loss',
    'val/knn': 'k-NN on val, %',
    'val/probe': 'linear probe on val, %',
    'train/lr': 'learning rate',
    'train/decay': 'EMA decay',
    'val/rankme': 'RankMe, dimensions',
    'val/feature_std': 'feature std of embeddings',
    'val/lidar': 'LiDAR, dimensions',
    'val/alpha_req': 'alpha-ReQ',
    'val/alignment': 'alignment (low is good)',
    'val/uniformity': 'uniformity (low is good)',
    'train/feature_std': 'feature std of projections',
    'train/images_per_second': 'images per second',
    'train/data_wait': 'share of the time spent waiting for images',
}
LINE_STYLES = ('-', '--', '-.', ':')
MAX_POINTS_WITH_MARKERS = 15

Log = list[dict]
Series = dict[float, float]  # epoch -> value


def read_log(run: str | Path) -> Log:
    """Return the rows of a run's log.jsonl.

    Args:
        run: the work directory of a run, or its log.jsonl.

    Raises:
        ConfigError: the log does not exist, or it has no rows.
    """
    path = Path(run)
    if os.path.isdir(path) or path.suffix != '.jsonl':
        path = path / 'log.jsonl'
    try:
        rows = rows_of(path)
    except OSError as error:
        raise ConfigError(f'{path} cannot be read: {error.strerror or error}') from None
    if not rows:
        raise ConfigError(
            f'there is no curve in {path}; give the work directory of a run, which has a log.jsonl'
        )
    return rows


def series(log: Log, key: str) -> Series:
    """Return the finite values of a key by epoch; of several rows of an epoch the last counts."""
    values = {}
    for row in log:
        value = row.get(key)
        epoch = row.get('epoch')
        if is_number(value) and is_number(epoch):
            values[epoch] = value
    return dict(sorted(values.items()))


def mean_series(lines: list[Series]) -> Series:
    """Return the mean of several series at the epochs that all of them have."""
    if not lines:
        return {}
    common_epochs = sorted(set.intersection(*map(set, lines)))
    return {epoch: float(np.mean([line[epoch] for line in lines])) for epoch in common_epochs}


def logged_keys(logs: list[Log]) -> list[str]:
    """Return all keys that occur in the logs, those of ``KEY_TITLES`` first."""
    keys = {key for log in logs for row in log for key in row if '/' in key}
    return [key for key in KEY_TITLES if key in keys] + sorted(keys - set(KEY_TITLES))


def find_keys(names: list[str], logs: list[Log]) -> list[str]:
    """Return the log keys that names stand for.

    Args:
        names: keys such as 'train/loss', or 'loss' where that is not ambiguous.
        logs: logs of all runs.

    Raises:
        ConfigError: no log has such a key, or a short name matches two keys.
    """
    existing_keys = logged_keys(logs)
    keys = []
    for name in names:
        matches = [name]
        if name not in existing_keys:
            matches = [key for key in existing_keys if key.split('/', 1)[1] == name]
        if not matches:
            raise ConfigError(f'no run has logged {name!r}: {nearest(name, existing_keys)}')
        if len(matches) > 1:
            raise ConfigError(f'{name!r} may be {" or ".join(matches)}; write it in full')
        if matches[0] not in keys:
            keys.append(matches[0])
    return keys


@styled
def plot_curves(
    groups: dict[str, list[Log]], keys: list[str], columns: int = 2, width: float = 4.4
) -> Figure:
    """Plot a panel for each key with a line for each group.

    The thick line is a group's mean over seeds, the thin lines are its seeds.

    Args:
        groups: label -> logs of several seeds.
        keys: log keys.
        columns: maximum number of panels side by side.
        width: width of the figure, in inches.
    """
    has_legend = len(groups) > 1
    figure, axes = epoch_panels(
        len(keys),
        columns,
        width,
        panel_height=0.72 * width / columns,
        legend_entries=len(groups) if has_legend else 0,
    )
    legend_lines: dict[str, Line2D] = {}
    for axis, key in zip(axes, keys, strict=True):
        for number, (label, logs) in enumerate(groups.items()):
            seeds = [values for log in logs if (values := series(log, key))]
            line = _plot_seeds_and_mean(axis, seeds, number)
            if line is not None:
                legend_lines[label] = line
        axis.set_title(KEY_TITLES.get(key, key), loc='left')
    if has_legend:
        figure.legend(
            list(legend_lines.values()),
            list(legend_lines),
            loc='outside lower center',
            ncols=min(len(legend_lines), legend_columns(width)),
        )
    return figure


def _plot_seeds_and_mean(axis: Axes, seeds: list[Series], number: int) -> Line2D | None:
    """Plot the seeds of a group; return the line of their mean, None if it has no point."""
    look: dict[str, Any] = dict(
        color=colour(number), linestyle=LINE_STYLES[number % len(LINE_STYLES)]
    )
    if len(seeds) > 1:
        for values in seeds:
            axis.plot(list(values), list(values.values()), **look, linewidth=0.6, alpha=0.45)
    mean = mean_series(seeds)
    if not mean:
        return None
    if len(mean) < MAX_POINTS_WITH_MARKERS:
        look |= dict(marker='o', markersize=3)
    [line] = axis.plot(list(mean), list(mean.values()), **look, linewidth=1.6)
    return line


@styled
def plot_each_against_others(groups: dict[str, list[Log]], key: str, width: float = 4.4) -> Figure:
    """Plot a panel for each group: its mean in colour, the means of all others in grey.

    The panels share their axes and stay readable for any number of groups.

    Args:
        groups: label -> logs of several seeds.
        key: log key.
        width: width of the figure, in inches.
    """
    columns = panel_columns(len(groups))
    narrow = columns > 2
    panel_height = 1.0 if narrow else 1.5
    figure, axes = epoch_panels(len(groups), columns, width, panel_height, sharey=True)
    means = {
        label: mean_series([values for log in logs if (values := series(log, key))])
        for label, logs in groups.items()
    }
    for axis, (label, mean) in zip(axes, means.items(), strict=True):
        for other in means.values():
            axis.plot(list(other), list(other.values()), color=LIGHT_GREY, linewidth=0.6)
        axis.plot(list(mean), list(mean.values()), color=colour(0), linewidth=1.8)
        axis.set_title(shorten(label, 13 if narrow else 30), loc='left')
    figure.supylabel(KEY_TITLES.get(key, key), fontsize='medium')
    return figure


def panel_columns(n: int) -> int:
    """Return the number of columns for ``n`` small panels in a figure of a report."""
    return 3 if n == 3 else min(4, n)
