"""The leaderboard: one table of the results of many runs, with the seeds of a setup averaged."""

import hashlib
import json
import math
import statistics
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace

from ssl_zoo.errors import ConfigError, nearest
from ssl_zoo.evaluation.protocols.describe import describe_row
from ssl_zoo.printable import printable
from ssl_zoo.reports.leaderboard_rows import (
    DATA_FIELDS,
    IGNORED_CONFIG_KEYS,
    ResultRow,
    find_files,
    read_rows,
)


@dataclass(frozen=True)
class Entry:
    """One line of the leaderboard.

    Attributes:
        mark: letter of the test set, '' if its images are not known.
        rank: rank among the comparable entries (see ``ranking_key``), 1 for the best; None without
            a mark.
        method: name of the method, with the origin of imported weights.
        metric: name of the metric.
        value: mean over ``runs``, in percent.
        std: sample standard deviation over ``runs``; for a single row that of the row, such as over
            draws of labels; None if not known.
        std_of: what ``std`` is taken over, such as '3 seeds', or ''.
        runs: number of rows in the entry.
        interval: 95 % interval of a single run, or None.
        protocol: sentence of the protocol, without chosen values that differ between the rows.
        test: class of the test set.
        manifest: hash of the test images, '' if not known.
        bank: hash of the images that the evaluation learnt from, such as the bank of k-NN, '' if
            not recorded.
        bank_images: number of these images, None if not recorded.
        warnings: sentences that the figure carries, one per line.
        images: number of test images that were read.
        label_set: labels that were chosen to train on, such as '1%', '' for all.
        labelled: number of these labels.
        list_sha256: hash of the list of labelled images; of several lists, over draws or seeds, a
            hash of their hashes; '' for others.
        weights: 'trained' or 'random weights'.
        network: 'online', 'target' or 'backbone'.
        layer: 'backbone' or 'projector'.
        epochs: epochs of the training; None for imported weights.
        seconds: mean seconds over ``runs``.
        device: device of the evaluation.
        seeds: seeds of the runs.
        config: config keys that differ from other entries of the same method and test set.
        checkpoint: checkpoint files, one per line.
        command: commands, one per line.
        again: number of rows left out because the same seed was measured again later.
    """

    mark: str
    rank: int | None
    method: str
    metric: str
    value: float
    std: float | None
    std_of: str
    runs: int
    interval: tuple[float, float] | None
    protocol: str
    test: str
    manifest: str
    bank: str
    bank_images: int | None
    warnings: str
    images: int | None
    label_set: str
    labelled: int | None
    list_sha256: str
    weights: str
    network: str
    layer: str
    epochs: float | None
    seconds: float | None
    device: str
    seeds: str
    config: str
    checkpoint: str
    command: str
    again: int

    def ranking_key(self) -> tuple:
        """Return the values that comparable entries share.

        These are the metric, the test images, the number of images read, the images that the
        evaluation learnt from, and the training labels: their number and the hash of their list.
        """
        return (
            self.metric,
            self.manifest,
            self.images,
            self.bank,
            self.label_set,
            self.labelled,
            self.list_sha256,
        )

    def bank_text(self) -> str:
        """Return the images that the evaluation learnt from in words."""
        if not self.bank:
            return 'bank not recorded'
        count = '' if self.bank_images is None else f' of {self.bank_images:,} labels'
        return f'bank {self.bank}{count}'

    def labels(self) -> str:
        """Return the training labels of the entry in words, '' if not known."""
        if self.labelled is None:
            return f'labels {self.label_set}' if self.label_set else ''
        text = f'{self.labelled:,} labels'
        if self.label_set:
            text += f' ({self.label_set})'
        return f'{text}, list {self.list_sha256[:8]}' if self.list_sha256 else text


@dataclass(frozen=True)
class Leaderboard:
    """The entries of a leaderboard, and the number of files and rows behind them.

    Attributes:
        entries: comparable entries next to each other, the best first.
        split: number of settings that were measured with different images, whose rows are
            therefore not averaged.
        damaged: a sentence for each line without a result.
        files: number of files.
        rows: number of rows.
    """

    entries: list[Entry]
    split: int
    damaged: list[str]
    files: int
    rows: int


def build_leaderboard(paths: list[str], metrics: list[str] | None = None) -> Leaderboard:
    """Read, group and rank results.

    Args:
        paths: files results.jsonl, and folders that are searched for such files.
        metrics: names of the metrics to keep, None for all.

    Raises:
        ConfigError: a path does not exist, there are no results, or no row has one of the metrics.
    """
    files = find_files(paths)
    rows, damaged = read_rows(files)
    rows = [row for row in rows if not row.is_label_free]
    if not rows:
        details = f', and {len(damaged)} damaged lines ({damaged[0]})' if damaged else ''
        raise ConfigError(
            f'there are no figures in {", ".join(paths)}: {len(files)} files results.jsonl'
            f'{details}; train something first, such as with ssl-zoo train byol/digits'
        )
    names = sorted({row.fields['metric'] for row in rows})
    for metric in metrics or ():
        if metric not in names:
            raise ConfigError(f'no row has the metric {metric!r}: {nearest(metric, names)}')
    groups = defaultdict(list)
    for row in rows:
        if not metrics or row.fields['metric'] in metrics:
            groups[row.entry_key()].append(row)
    entries = [_entry(group) for group in groups.values()]
    configs = [_flat_config(group[0]) for group in groups.values()]
    return Leaderboard(
        _rank(_tell_configs_apart(entries, configs)),
        _count_split(list(groups.values())),
        [printable(sentence) for sentence in damaged],
        len(files),
        len(rows),
    )


def _flat_config(row: ResultRow) -> dict[str, str]:
    """Return the flat config, with the hashes of the images that have no column of their own."""
    config = _flat(row.get('config', kind=dict) or {})
    data = {name: row.get(name) for name in ('train_data', 'val_data')}
    return config | {name: value for name, value in data.items() if value}


def _count_split(groups: list[list[ResultRow]]) -> int:
    """Count the settings whose rows are in several groups because of their images alone."""
    images_of = defaultdict(set)
    for group in groups:
        images = tuple(group[0].get(name) for name in DATA_FIELDS)
        images_of[group[0].setting_key()].add(images)
    return sum(len(images) > 1 for images in images_of.values())


def _entry(group: list[ResultRow]) -> Entry:
    """Make the entry of rows that differ in the seed alone, without mark, rank and config."""
    newest = {}
    for row in sorted(group, key=lambda row: row.get('time') or ''):
        newest[row.seeds()] = row
    rows = [newest[seeds] for seeds in sorted(newest, key=_seeds_order)]
    last = rows[-1]
    values = [float(row.fields['value']) for row in rows]
    std, std_of = _std_and_source(values, last)
    seconds = [row.get('seconds', kind=(int, float)) for row in rows]
    seconds = [s for s in seconds if s is not None and math.isfinite(s)]
    epochs = last.get('config', 'epochs', kind=(int, float))
    return Entry(
        mark='',
        rank=None,
        method=_method(last),
        metric=last.fields['metric'],
        value=statistics.fmean(values),
        std=std,
        std_of=std_of,
        runs=len(rows),
        interval=_interval(last) if len(rows) == 1 else None,
        protocol=_protocol(rows),
        test=last.get('test') or '?',
        manifest=last.get('test_data') or last.get('test_manifest') or '',
        bank=last.get('bank_data') or '',
        bank_images=last.get('bank_images', kind=int),
        warnings=_join_distinct((text for row in rows for text in _warnings(row)), '\n'),
        images=last.get('n', kind=int),
        label_set=last.get('label_set') or '',
        labelled=last.get('labelled', kind=int),
        list_sha256=_lists_hash(rows),
        weights=last.get('weights') or '?',
        network=last.get('network') or '',
        layer=last.get('layer') or '',
        epochs=None if _is_imported(last) else epochs,  # an import's epochs are a placeholder
        seconds=statistics.fmean(seconds) if seconds else None,
        device=_join_distinct((row.get('versions', 'device') for row in rows), '; '),
        seeds=_seeds_text(list(newest)),
        config='',
        checkpoint=_join_distinct((row.get('checkpoint') for row in rows), '\n'),
        command=_join_distinct((row.get('command') for row in rows), '\n'),
        again=len(group) - len(rows),
    )


def _seeds_order(seeds: tuple) -> list[tuple]:
    """Order numbers before paths, and None before numbers."""
    return [(isinstance(part, str), part is not None, part or 0) for part in seeds]


def _std_and_source(values: list[float], last: ResultRow) -> tuple[float | None, str]:
    """Return the standard deviation, and what it is taken over, such as '3 seeds'."""
    if len(values) > 1:
        return statistics.stdev(values), f'{len(values)} seeds'
    std = last.get('std', kind=(int, float))
    if std is None:
        return None, ''
    return float(std), f'{last.get("draws", kind=int) or "several"} draws'


def _interval(row: ResultRow) -> tuple[float, float] | None:
    ends = row.get('ci95', kind=list)
    if not ends or len(ends) != 2 or not all(isinstance(v, (int, float)) for v in ends):
        return None
    return float(ends[0]), float(ends[1])


def _protocol(rows: list[ResultRow]) -> str:
    """Return the sentence of the protocol, with the chosen values that all rows share."""
    chosen = rows[-1].get('chosen', kind=dict) or {}
    for row in rows:
        other = row.get('chosen', kind=dict) or {}
        chosen = {key: value for key, value in chosen.items() if other.get(key) == value}
    try:
        sentence = describe_row(dict(rows[-1].fields, chosen=chosen))
    except ConfigError:  # a parameter that is neither fixed nor chosen from candidates, yet differs
        sentence = describe_row(dict(rows[-1].fields))
    draw = rows[-1].get('draw', kind=int)
    return sentence if draw is None else f'{sentence}, draw {draw}'


def _lists_hash(rows: list[ResultRow]) -> str:
    """Return the hash of the label list of the rows, a hash of the hashes of several, or ''."""
    lists = [row.get('lists_sha256', kind=list) or [row.get('list_sha256')] for row in rows]
    hashes = sorted({text for of_row in lists for text in of_row if isinstance(text, str)})
    if len(hashes) > 1:
        return hashlib.sha256(' '.join(hashes).encode()).hexdigest()
    return hashes[0] if hashes else ''


def _warnings(row: ResultRow) -> list[str]:
    """Return the warnings of a row; earlier rows have one sentence in `warning`."""
    texts = row.get('warnings', kind=list) or [row.get('warning')]
    return [text for text in texts if isinstance(text, str)]


def _is_imported(row: ResultRow) -> bool:
    return row.get('config', 'method', 'type') == 'Imported'


def _method(row: ResultRow) -> str:
    name = row.get('config', 'method', 'type') or '?'
    if not _is_imported(row):
        return name
    parts = [row.get('config', 'method', 'source', key) for key in ('layout', 'file')]
    origin = ', '.join(text for text in parts if text) or 'of unknown origin'
    return f'{name} ({origin})'


def _join_distinct(texts: Iterable[str | None], separator: str) -> str:
    return separator.join(dict.fromkeys(text for text in texts if text))


def _seeds_text(seeds: list[tuple]) -> str:
    """Return '0, 1, 2', or '0 (evaluation 3), ...' where the evaluations have their own seeds."""
    seeds = sorted((pair for pair in seeds if isinstance(pair[0], int)), key=_seeds_order)
    evaluation_seeds = {evaluation for _, evaluation in seeds}
    are_equal = all(evaluation in (None, training) for training, evaluation in seeds)
    if len(evaluation_seeds) < 2 or are_equal:
        return ', '.join(str(training) for training, _ in seeds) or '?'
    return ', '.join(f'{training} (evaluation {evaluation})' for training, evaluation in seeds)


def _tell_configs_apart(entries: list[Entry], configs: list[dict[str, str]]) -> list[Entry]:
    """Fill in ``config``: the keys that differ between entries of one method and test set."""
    by_set = defaultdict(list)
    for entry, config in zip(entries, configs, strict=True):
        by_set[entry.method, entry.manifest].append(config)
    differing = {key: _differing_keys(configs_of) for key, configs_of in by_set.items()}
    told_apart = []
    for entry, config in zip(entries, configs, strict=True):
        shown = differing[entry.method, entry.manifest]
        differences = [f'{key}={value}' for key, value in config.items() if key in shown]
        told_apart.append(replace(entry, config=', '.join(differences)))
    return told_apart


def _differing_keys(configs: list[dict[str, str]]) -> set[str]:
    """Return the keys that some configs lack, or that do not have the same value in all."""
    values_of = defaultdict(list)
    for config in configs:
        for key, value in config.items():
            values_of[key].append(value)
    return {
        key
        for key, values in values_of.items()
        if len(values) < len(configs) or len(set(values)) > 1
    }


def _flat(config: object, key: str = '') -> dict[str, str]:
    """Return {'method.proj_dim': '128', ...} without the keys that do not change a result."""
    if isinstance(config, list) and any(isinstance(item, dict) for item in config):
        config = dict(enumerate(config))
    if not isinstance(config, dict):
        return {key: json.dumps(config)}
    flat: dict[str, str] = {}
    for name, value in config.items():
        if key or name not in IGNORED_CONFIG_KEYS:
            flat |= _flat(value, f'{key}.{name}' if key else str(name))
    return flat


def _rank(entries: list[Entry]) -> list[Entry]:
    """Fill in marks and ranks, and sort."""
    test_sets = sorted({(entry.test, entry.manifest) for entry in entries if entry.manifest})
    manifests = list(dict.fromkeys(manifest for _, manifest in test_sets))
    marks = {manifest: letters(i) for i, manifest in enumerate(manifests)}
    values = defaultdict(list)
    for entry in entries:
        values[entry.ranking_key()].append(entry.value)
    ascending = {key: sorted(of_key) for key, of_key in values.items()}
    ranked = []
    for entry in entries:
        rivals = ascending[entry.ranking_key()]
        better = len(rivals) - bisect_right(rivals, entry.value)
        rank = 1 + better if entry.manifest else None
        ranked.append(replace(entry, mark=marks.get(entry.manifest, ''), rank=rank))
    return sorted(ranked, key=_order)


def _order(entry: Entry) -> tuple:
    return (
        entry.metric,
        not entry.manifest,
        len(entry.mark),
        entry.mark,
        '' if entry.manifest else entry.test,
        entry.labelled or 0,
        entry.label_set,
        entry.list_sha256,
        -(entry.images or 0),
        entry.bank,
        -entry.value,
    )


def letters(i: int) -> str:
    """Return the mark of test set ``i``: A, B ... Z, AA, AB ..."""
    first = letters(i // 26 - 1) if i > 25 else ''
    return first + chr(ord('A') + i % 26)


def number_of(mark: str) -> int:
    """Return the number of a mark: A 0, B 1 ... Z 25, AA 26 ..."""
    digits = [ord(letter) - ord('A') + 1 for letter in reversed(mark)]
    return sum(digit * 26**i for i, digit in enumerate(digits)) - 1
