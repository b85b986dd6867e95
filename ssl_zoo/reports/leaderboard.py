"""Figures of many runs in one table: rows of results.jsonl, those that differ in the seed alone taken together."""

import json
import math
import os
import re
import statistics
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

from ssl_zoo.errors import ConfigError, nearest

NO_PART_IN_IT = (
    'seed',
    'workers',
    'log_every',
    'online_eval',
    'checkpoint',
    'parallel',
    'imports',
)  # keys of a config that change no figure
# What a choice on the hold-out has found, in the words of ssl_zoo.protocols: seeds may choose differently, the protocol is the same.
CHOSEN = [
    (re.compile(r'(held-out images) \([\d.]+ %\)'), r'\1'),
    (re.compile(r'\b(lr|weight decay|strength) [\d.e+-]+'), r'\1 chosen'),
    (re.compile(r'\bk=\d+, T=[\d.e+-]+'), 'k and T chosen'),
    (re.compile(r'\b[\d.e+]+ epochs'), 'epochs chosen'),
]
RECALL = re.compile(r'recall [\d.]+ %')  # of a clustered index, measured


@dataclass(frozen=True)
class Row:
    """A row of a file: attributes: items: what it says; path, line: where it stands."""

    items: dict
    path: Path
    line: int

    def at(self, *keys: str, kind: type | tuple = str):
        """The item below these keys if it is there and of this kind, else None."""
        place = self.items
        for key in keys:
            place = place.get(key) if isinstance(place, dict) else None
        return place if isinstance(place, kind) and not isinstance(place, bool) else None


@dataclass(frozen=True)
class Figure:
    """One line of the table.

    Attributes:
        mark: letter of the test set, '' where its images are not known; rank: among the figures that compare (see ``compared``), best 1,
            None without mark.
        label_set, labelled: the labels that a semi-supervised figure was trained on, '' and None for others.
        value: mean over ``runs``; std: sample standard deviation over them, or the row's own, as ``std_of`` says; interval: 95 %, of one
            run, or None.
        config: what sets its config apart from the others of its method and test set.
        again: rows left out because the same seed was measured again later.
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
    images: int | None
    label_set: str
    labelled: int | None
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


@dataclass(frozen=True)
class Board:
    """Attributes: figures: by what compares, best first; damaged: a sentence for each line that is none; files, rows: how many."""

    figures: list[Figure]
    damaged: list[str]
    files: int
    rows: int


def files_in(paths: list[str]) -> list[Path]:
    """The files given, and every results.jsonl below the folders given, each once. Raises ConfigError for what is not there."""
    found = {}
    for path in map(Path, paths):
        if not path.exists():
            raise ConfigError(
                f'there is nothing at {path.absolute()}; give files results.jsonl, or folders that hold some, such as '
                f'work_dirs'
            )
        below = (
            [path]
            if path.is_file()
            else sorted(
                Path(folder, 'results.jsonl')
                for folder, _, names in os.walk(path)
                if 'results.jsonl' in names
            )
        )
        found |= {file.resolve(): file for file in below if file.resolve() not in found}
    return list(found.values())


def read(files: list[Path]) -> tuple[list[Row], list[str]]:
    """The rows that have a figure, and a sentence for every line that has none. Raises ConfigError for a file that cannot be read."""
    rows, damaged = [], []
    for path in files:
        try:
            lines = path.read_bytes().split(b'\n')
        except OSError as error:
            raise ConfigError(f'cannot read {path}: {error}') from None
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    rows.append(_row(json.loads(line.decode(errors='replace')), path, number))
                except (ValueError, RecursionError, OverflowError) as error:
                    why = 'not JSON' if isinstance(error, json.JSONDecodeError) else str(error)
                    damaged.append(f'{path}, line {number}: {why}')
    return rows, damaged


def _row(items, path: Path, number: int) -> Row:
    if not isinstance(items, dict):
        raise ValueError('not a row')
    row = Row(items, path, number)
    if not row.at('metric'):
        raise ValueError('no metric')
    if row.at('value', kind=(int, float)) is None or not math.isfinite(float(items['value'])):
        raise ValueError('no finite value')
    return row


def same_but_seed(row: Row) -> str:
    """What rows must have in common to be one figure over seeds."""
    config = row.at('config', kind=dict) or {}
    kept = {
        name: row.items.get(name)
        for name in (
            'metric',
            'weights',
            'network',
            'layer',
            'test',
            'test_manifest',
            'n',
            'step',
            'recipe',
            'preprocessing',
            'label_set',
            'labelled',
            'draw',
            'draws',
        )
    }
    return json.dumps(
        [kept, protocol_of(row), {k: v for k, v in config.items() if k not in NO_PART_IN_IT}],
        sort_keys=True,
    )


def protocol_of(row: Row) -> str:
    """The protocol without what its choice has found."""
    text = RECALL.sub('recall measured', row.at('protocol') or '')
    if 'chosen of' in text:
        for pattern, instead in CHOSEN:
            text = pattern.sub(instead, text)
    return text


def seeds_of(row: Row) -> tuple:
    """(seed of the training, seed of the evaluation or None): what tells the runs of a figure apart. A row without is a run of its own."""
    trained, own = row.at('config', 'seed', kind=int), row.at('seed', kind=int)
    if trained is None and own is None:
        return str(row.path), row.line
    return (own if trained is None else trained), (
        own if 'checkpoint_sha256' in row.items else None
    )


def board(paths: list[str], metrics: list[str] | None = None) -> Board:
    """Gather, group and rank.

    Args:
        paths: files and folders; metrics: names of those to keep, None for all.
    Raises:
        ConfigError: a path that is not there, no figure in any of them, a metric that none of them has.
    """
    files = files_in(paths)
    rows, damaged = read(files)
    if not rows:
        lost = f', and {len(damaged)} damaged lines ({damaged[0]})' if damaged else ''
        raise ConfigError(
            f'there are no figures in {", ".join(paths)}: {len(files)} files results.jsonl{lost}; train something first, '
            f'such as with python tools/train.py configs/byol/digits.py'
        )
    names = sorted({row.items['metric'] for row in rows})
    for metric in metrics or ():
        if metric not in names:
            raise ConfigError(f'no row has the metric {metric!r}: {nearest(metric, names)}')
    groups = defaultdict(list)
    for row in rows:
        if not metrics or row.items['metric'] in metrics:
            groups[same_but_seed(row)].append(row)
    figures = [_figure(group) for group in groups.values()]
    configs = [_flat(group[0].at('config', kind=dict) or {}) for group in groups.values()]
    figures = [
        replace(
            f,
            config=_apart(
                own,
                [
                    c
                    for g, c in zip(figures, configs, strict=True)
                    if (g.method, g.manifest) == (f.method, f.manifest)
                ],
            ),
        )
        for f, own in zip(figures, configs, strict=True)
    ]
    return Board(_ranked(figures), damaged, len(files), len(rows))


def _figure(group: list[Row]) -> Figure:
    runs = {}
    for row in sorted(group, key=lambda row: row.at('time') or ''):
        runs[seeds_of(row)] = row  # the newest of each
    chosen = [
        runs[key]
        for key in sorted(
            runs, key=lambda key: [(isinstance(k, str), k is not None, k or 0) for k in key]
        )
    ]
    values, one = [float(row.items['value']) for row in chosen], chosen[-1]
    std, std_of = None, ''
    if len(values) > 1:
        std, std_of = statistics.stdev(values), f'{len(values)} seeds'
    elif (own := one.at('std', kind=(int, float))) is not None:
        std, std_of = float(own), f'{one.at("draws", kind=int) or "several"} draws'
    ci = one.at('ci95', kind=list)
    interval = (
        (float(ci[0]), float(ci[1]))
        if len(chosen) == 1 and ci and len(ci) == 2 and all(isinstance(v, (int, float)) for v in ci)
        else None
    )
    protocols = {row.at('protocol') or '' for row in chosen}
    seconds = [s for row in chosen if (s := row.at('seconds', kind=(int, float))) is not None]
    own_draw = one.at('draw', kind=int)
    return Figure(
        mark='',
        rank=None,
        method=_method(one),
        metric=one.items['metric'],
        value=statistics.fmean(values),
        std=std,
        std_of=std_of,
        runs=len(values),
        interval=interval,
        protocol=(protocols.pop() if len(protocols) == 1 else protocol_of(one))
        + (f', draw {own_draw}' if own_draw is not None else ''),
        test=one.at('test') or '?',
        manifest=one.at('test_manifest') or '',
        images=one.at('n', kind=int),
        label_set=one.at('label_set') or '',
        labelled=one.at('labelled', kind=int),
        weights=one.at('weights') or '?',
        network=one.at('network') or '',
        layer=one.at('layer') or '',
        epochs=None
        if _imported(one)
        else one.at('config', 'epochs', kind=(int, float)),  # an import's are a placeholder
        seconds=statistics.fmean(seconds) if seconds else None,
        device=_several(row.at('versions', 'device') for row in chosen),
        seeds=_seeds(list(runs)),
        config='',
        checkpoint=_several((row.at('checkpoint') for row in chosen), '\n'),
        command=_several((row.at('command') for row in chosen), '\n'),
        again=len(group) - len(chosen),
    )


def _imported(row: Row) -> bool:
    return row.at('config', 'method', 'type') == 'Imported'


def _method(row: Row) -> str:
    name = row.at('config', 'method', 'type') or '?'
    if _imported(row):
        origin = [row.at('config', 'method', 'source', key) for key in ('layout', 'file')]
        name += f' ({", ".join(text for text in origin if text) or "of unknown origin"})'
    return name


def compared(f: Figure) -> tuple:
    """What figures must share to be ranked with each other: the images, how many of them were read, the labels they were trained on."""
    return f.metric, f.manifest, f.images, f.label_set, f.labelled


def labels_of(f: Figure) -> str:
    """The labels that a figure was trained on, in words, '' where the row does not say."""
    count = f'{f.labelled:,} labels' if f.labelled is not None else ''
    return (
        f'{count} ({f.label_set})'
        if count and f.label_set
        else count or (f'labels {f.label_set}' if f.label_set else '')
    )


def _several(texts, between: str = '; ') -> str:
    return between.join(dict.fromkeys(text for text in texts if text))


def _seeds(keys: list[tuple]) -> str:
    keys = sorted(key for key in keys if isinstance(key[0], int))
    if len({own for _, own in keys}) < 2 or all(own in (None, trained) for trained, own in keys):
        return ', '.join(str(trained) for trained, _ in keys) or '?'
    return ', '.join(f'{trained} (evaluation {own})' for trained, own in keys)


def _flat(config, key: str = '') -> dict[str, str]:
    """{'method.proj_dim': '128', ...} without what has no part in a figure."""
    if isinstance(config, dict) or (
        isinstance(config, list) and any(isinstance(item, dict) for item in config)
    ):
        out = {}
        for name, value in config.items() if isinstance(config, dict) else enumerate(config):
            if key or name not in NO_PART_IN_IT:
                out |= _flat(value, f'{key}.{name}' if key else str(name))
        return out
    return {key: json.dumps(config)}


def _apart(own: dict[str, str], others: list[dict[str, str]]) -> str:
    return ', '.join(
        f'{key}={value}'
        for key, value in own.items()
        if any(other.get(key) != value for other in others)
    )


def _ranked(figures: list[Figure]) -> list[Figure]:
    sets = sorted({(f.test, f.manifest) for f in figures if f.manifest})
    marks = {
        manifest: letters(i)
        for i, manifest in enumerate(dict.fromkeys(manifest for _, manifest in sets))
    }
    ranked = []
    for f in sorted(
        figures,
        key=lambda f: (
            f.metric,
            not f.manifest,
            len(marks.get(f.manifest, '')),
            marks.get(f.manifest, ''),
            '' if f.manifest else f.test,
            f.labelled or 0,
            f.label_set,
            -(f.images or 0),
            -f.value,
        ),
    ):
        better = sum(g.value > f.value for g in figures if compared(g) == compared(f))
        ranked.append(
            replace(f, mark=marks.get(f.manifest, ''), rank=better + 1 if f.manifest else None)
        )
    return ranked


def letters(i: int) -> str:
    """A, B ... Z, AA, AB ..."""
    return (letters(i // 26 - 1) if i > 25 else '') + chr(ord('A') + i % 26)
