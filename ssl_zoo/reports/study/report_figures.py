"""The figures of a report, drawn, saved as files and put into cards for the html."""

import re
from pathlib import Path

from ssl_zoo.errors import ConfigError
from ssl_zoo.reports import html
from ssl_zoo.reports import tsne as maps
from ssl_zoo.reports.curves import (
    KEYS,
    SHOWN,
    Log,
    beside_the_others,
    curves,
    keys_of,
    read_log,
    series,
)
from ssl_zoo.reports.study import plots
from ssl_zoo.reports.style import save
from ssl_zoo.storage.atomic import write_or_raise
from ssl_zoo.studies.results import ArmResults, StudyResults
from ssl_zoo.studies.tuning_results import tuning_results

QUERIES, NEAREST, ROWS = 5, 5, 4  # images with neighbours, neighbours of each, images with views
BOTH = ('.svg', '.png')  # for pages that take no SVG
BELOW = 'the numbers are in the table below'


def height_of(rows: int) -> int:
    """Pixels that so many rows of a views.png take."""
    from ssl_zoo.engine.hooks.views_picture import ViewsPictureHook as hook

    return hook.HEAD + rows * (hook.SIDE + hook.GAP) + hook.GAP


class Cards:
    """Every function returns the cards (HTML) of one kind of figure, none where there is nothing to draw. What cannot be read becomes
    one of the study's problems.

    Args:
        study: what to draw; folder: where the files go.
    """

    def __init__(self, study: StudyResults, folder: Path):
        self.study, self.folder, self.used = study, folder, set()

    def path(self, name: str, ending: str) -> Path:
        """A file that no other figure has taken."""
        stem = re.sub(r'\W+', '_', name.lower()).strip('_')
        while stem + ending in self.used:
            stem += '_'
        self.used.add(stem + ending)
        return self.folder / (stem + ending)

    def card(
        self, drawn, name: str, alt: str, caption: str, endings: tuple[str, ...] = ('.svg',)
    ) -> list[str]:
        """Save a figure under all endings; the card shows the first."""
        if drawn is None:
            return []
        paths = [save(drawn, self.path(name, ending)) for ending in endings]
        return [html.figure(paths[0], alt, caption)]

    def problem(self, text: str) -> None:
        if text not in self.study.problems:
            self.study.problems.append(text)

    def accuracy(self) -> list[str]:
        """A card for each metric; all of them in one picture are saved as accuracy.svg and .png."""
        cards = []
        for metric in self.study.metrics:
            cards += self.card(
                plots.accuracy(self.study, [metric]),
                f'accuracy {metric["key"]}',
                f'{metric["name"]} accuracy of each method over seeds; {BELOW}',
                f'{metric["name"]}. Circles: seeds; filled: their mean (orange square: '
                f'{self.study.plan["reference"]}); bar: 95 % interval, which goes on where it meets the frame; dashed: '
                'random weights.',
            )
        whole = plots.accuracy(
            self.study, self.study.metrics, width=2.1 * len(self.study.metrics) + 0.8
        )
        self.card(whole, 'accuracy', '', '', endings=BOTH)
        return cards

    def axes(self) -> list[str]:
        cards = []
        for axis, labels in self.study.axes.items():
            for metric in self.study.metrics:
                cards += self.card(
                    plots.against_axis(self.study, axis, metric),
                    f'axis {axis} {metric["key"]}',
                    f'{metric["name"]}: change of accuracy from {axis} {labels[0]}, a line for each method; {BELOW}',
                    f'{metric["name"]}: what changes from {axis} {labels[0]}, each method against itself, paired over '
                    f'seeds. Lines: means; small signs: seeds; methods are set apart sideways.',
                    BOTH,
                )
        return cards

    def cost(self) -> list[str]:
        cards = []
        for metric in self.study.metrics:
            cards += self.card(
                plots.against_cost(self.study, metric),
                f'cost {metric["key"]}',
                f'{metric["name"]} accuracy over the cost of training, a point for each method; the numbers are in the '
                f'table of results',
                f'{metric["name"]}; bars: 95 % interval over seeds, which goes on where it meets the frame.',
            )
        return cards

    def tuning(self) -> list[str]:
        drawn = plots.tuning_grid(
            tuning_results(self.study), (self.study.plan['tune'] or {}).get('key', 'setting')
        )
        return self.card(
            drawn,
            'tuning',
            f'k-NN accuracy on val over the factors tried, a panel for each method; {BELOW}',
            'Ring: the chosen trial; cross: a trial that failed, at the foot of the panel.',
        )

    def logs(self, arm: ArmResults) -> list[Log]:
        found = []
        for run in arm.runs.values():
            try:
                found.append(read_log(run['folder']))
            except ConfigError:
                self.problem(
                    f'{arm.name}, seed {run.get("seed")}: it has no log.jsonl with a curve'
                )
        return found

    def courses(self) -> list[str]:
        """What was measured on val during training, all methods beside each other."""
        groups = {
            arm.method: logs
            for arm in self.study.trained
            if self.study.at_baseline(arm) and (logs := self.logs(arm))
        }
        cards = []
        for key, name in KEYS.items():
            have = {
                method: logs
                for method, logs in groups.items()
                if any(series(log, key) for log in logs)
            }
            if key.startswith('val/') and len(have) > 1:
                cards += self.card(
                    beside_the_others(have, key),
                    key,
                    f'{name} over epochs, a panel for each method',
                    f'{name}: the method in colour, all the others in grey; means over seeds.',
                    BOTH,
                )
        return cards

    def of_method(self, method: str) -> list[str]:
        """Its curves, views, map and neighbours; the last three of the first seed under the first label of every axis."""
        arms = [arm for arm in self.study.arms if arm.method == method and arm.runs]
        first = next(
            (arm for arm in arms if self.study.at_baseline(arm)), arms[0] if arms else None
        )
        return (
            [*self.curves(method, arms), *self.views(first), *self.features(first)] if first else []
        )

    def curves(self, method: str, arms: list[ArmResults]) -> list[str]:
        groups = {
            ', '.join(f'{axis} {label}' for axis, label in arm.axes.items()) or method: logs
            for arm in arms
            if arm.trained and (logs := self.logs(arm))
        }
        logged = keys_of([log for logs in groups.values() for log in logs])
        keys = [key for key in SHOWN if key in logged]
        if not keys:
            return []
        n = max(map(len, groups.values()))
        return self.card(
            curves(groups, keys),
            f'curves {method}',
            f'{method}: {", ".join(KEYS[key] for key in keys)} over epochs',
            f'{method}: curves of {n} seed{"s" if n > 1 else ""}.',
        )

    def views(self, arm: ArmResults) -> list[str]:
        found = next(
            (path for run in arm.runs.values() if (path := run['folder'] / 'views.png').is_file()),
            None,
        )
        if found is None or not arm.trained:
            return []
        try:
            content = html.as_jpeg(found, height_of(ROWS))
        except OSError as error:
            self.problem(f'{arm.name}: views.png cannot be read ({type(error).__name__})')
            return []
        path = self.path(f'views {arm.method}', '.jpg')
        write_or_raise(path, lambda file: file.write(content))
        return [
            html.figure(
                path,
                f'{arm.method}: training images beside their views',
                f'{arm.method}: the images and their views.',
            )
        ]

    def features(self, arm: ArmResults) -> list[str]:
        file = next(
            (path for run in arm.runs.values() if (path := run['folder'] / 'map.npz').is_file()),
            None,
        )
        if file is None:
            return []
        try:
            found = maps.EmbeddingMap.load(file)
        except ValueError as error:
            self.problem(f'{arm.name}: map.npz cannot be read ({error})')
            return []
        n = len(found.labels)
        cards = self.card(
            maps.drawn_map(found, maps.tsne(found)),
            f'map {arm.method}',
            f'{arm.method}: t-SNE map of {n} test images by class',
            f'{arm.method}: t-SNE of {n} test images (cosine distance, perplexity {found.perplexity:g}, random state 0). '
            f'Distances between groups mean nothing.',
            endings=('.png',),
        )
        queries = maps.first_of_each(found.labels, QUERIES)
        nearest = maps.neighbours(found, queries, min(NEAREST, n - 1))
        right = int((found.labels[nearest] == found.labels[queries][:, None]).sum())
        path = self.path(f'neighbours {arm.method}', '.jpg')
        write_or_raise(
            path, lambda stream: stream.write(maps.drawn_neighbours(found, queries, nearest))
        )
        return [
            *cards,
            html.figure(
                path,
                f'{arm.method}: {right} of {nearest.size} nearest neighbours are of the class of their image',
                f'{arm.method}: nearest among {n} test images (cosine). Tick and whole frame: of the same class ({right} of '
                f'{nearest.size}); cross and broken frame: of another.',
            ),
        ]
