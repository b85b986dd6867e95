"""The figures of a study's report: drawn, saved as files, and returned as HTML for the page."""

import re
from pathlib import Path

from matplotlib.figure import Figure

from ssl_zoo.data.image_sheet import as_jpeg, crop_rows
from ssl_zoo.errors import ConfigError
from ssl_zoo.reports import html, tsne
from ssl_zoo.reports.curves import (
    DEFAULT_KEYS,
    KEY_TITLES,
    Log,
    logged_keys,
    plot_curves,
    plot_each_against_others,
    read_log,
    series,
)
from ssl_zoo.reports.study import plots
from ssl_zoo.reports.study.label_free import accuracy_metric, candidates
from ssl_zoo.reports.study.label_free_plot import plot_measures
from ssl_zoo.reports.style import save_figure
from ssl_zoo.storage.atomic import write_or_raise
from ssl_zoo.studies.results import ArmResults, StudyResults
from ssl_zoo.studies.tuning_results import tuning_results

QUERIES = 5  # images that are shown with neighbours
NEIGHBOURS = 5  # neighbours of each query
VIEWS_ROWS = 4  # images that are shown with their views
SVG = ('.svg',)
PNG = ('.png',)
SVG_AND_PNG = ('.svg', '.png')  # PNG is for pages that cannot show SVG
NUMBERS_BELOW = 'the numbers are in the table below'


class ReportFigures:
    """Draws the figures of a report.

    Each public method returns figures as HTML; an empty list if there is nothing to draw. A file
    of the study that cannot be read is added to ``study.problems``.

    Args:
        study: results of the study.
        folder: folder for the files of the figures.
    """

    def __init__(self, study: StudyResults, folder: Path) -> None:
        self.study = study
        self.folder = folder
        self._used_names: set[str] = set()

    def _path(self, name: str, suffix: str) -> Path:
        """Return a file path that no other figure uses."""
        stem = re.sub(r'\W+', '_', name.lower()).strip('_')
        while stem + suffix in self._used_names:
            stem += '_'
        self._used_names.add(stem + suffix)
        return self.folder / (stem + suffix)

    def _save_plot(
        self,
        plot: Figure | None,
        name: str,
        alt: str,
        caption: str,
        suffixes: tuple[str, ...] = SVG,
    ) -> list[str]:
        """Save a plot in each format. The page shows the first format."""
        if plot is None:
            return []
        paths = [save_figure(plot, self._path(name, suffix)) for suffix in suffixes]
        return [html.figure(paths[0], alt, caption)]

    def _save_jpeg(self, content: bytes, name: str, alt: str, caption: str) -> list[str]:
        path = self._path(name, '.jpg')
        write_or_raise(path, lambda file: file.write(content))
        return [html.figure(path, alt, caption)]

    def _add_problem(self, text: str) -> None:
        if text not in self.study.problems:
            self.study.problems.append(text)

    def accuracy(self) -> list[str]:
        """Return a figure for each metric. Also save accuracy.svg and .png with all metrics."""
        figures = []
        for metric in self.study.metrics:
            name = metric['name']
            figures += self._save_plot(
                plots.plot_accuracy(self.study, [metric]),
                f'accuracy {metric["key"]}',
                f'{name} accuracy of each method over seeds; {NUMBERS_BELOW}',
                f'{name}. Circles: seeds. Filled: their mean (orange square: '
                f'{self.study.reference}). Bar: 95 % interval; a bar that meets the frame is cut '
                'off. Dashed line: random weights.',
            )
        width = 2.1 * len(self.study.metrics) + 0.8
        all_metrics = plots.plot_accuracy(self.study, self.study.metrics, width)
        self._save_plot(all_metrics, 'accuracy', '', '', SVG_AND_PNG)
        return figures

    def axes(self) -> list[str]:
        """Return a figure for each axis and metric: the change from the first label."""
        figures = []
        for axis, labels in self.study.axes.items():
            for metric in self.study.metrics:
                name = metric['name']
                figures += self._save_plot(
                    plots.plot_along_axis(self.study, axis, metric),
                    f'axis {axis} {metric["key"]}',
                    f'{name}: change of accuracy from {axis} {labels[0]}, a line for each method; '
                    f'{NUMBERS_BELOW}',
                    f'{name}: change from {axis} {labels[0]}, each method against itself, paired '
                    'over seeds. Lines: means. Small markers: seeds. Methods are set apart '
                    'sideways.',
                    SVG_AND_PNG,
                )
        return figures

    def cost(self) -> list[str]:
        """Return a figure for each metric: accuracy against cost."""
        figures = []
        for metric in self.study.metrics:
            name = metric['name']
            figures += self._save_plot(
                plots.plot_against_cost(self.study, metric),
                f'cost {metric["key"]}',
                f'{name} accuracy over the cost of training, a point for each method; the numbers '
                'are in the table of results',
                f'{name}. Bars: 95 % interval over seeds; a bar that meets the frame is cut off.',
            )
        return figures

    def tuning(self) -> list[str]:
        """Return the figure of all trials."""
        key = (self.study.definition['tune'] or {}).get('key', 'setting')
        return self._save_plot(
            plots.plot_tuning_grid(tuning_results(self.study), key),
            'tuning',
            'k-NN accuracy on val over the factors tried, a panel for each method; '
            f'{NUMBERS_BELOW}',
            'Ring: the chosen trial. Cross at the foot of the panel: a trial that failed.',
        )

    def val_curves(self) -> list[str]:
        """Return a figure of all methods for each quantity measured on val during training."""
        logs_of = {}
        for arm in self.study.trained:
            if self.study.at_baseline(arm):
                logs_of[arm.method] = self._logs(arm)
        figures = []
        for key, title in KEY_TITLES.items():
            groups = {
                method: logs
                for method, logs in logs_of.items()
                if any(series(log, key) for log in logs)
            }
            if not key.startswith('val/') or len(groups) < 2:
                continue
            figures += self._save_plot(
                plot_each_against_others(groups, key),
                key,
                f'{title} over epochs, a panel for each method',
                f'{title}: the method in colour, all others in grey; means over seeds.',
                SVG_AND_PNG,
            )
        return figures

    def label_free(self) -> list[str]:
        """Return the figure of accuracy over each measure without labels, a point for each run."""
        metric = accuracy_metric(self.study)
        if metric is None:
            return []
        runs, _ = candidates(self.study, metric['key'])
        return self._save_plot(
            plot_measures(runs, metric['name']),
            'label_free',
            f'{metric["name"]} accuracy over each measure without labels, a point for each run; '
            f'the correlations are in the table below',
            f'{metric["name"]} accuracy of the finished runs over the measures at their last look.',
            SVG_AND_PNG,
        )

    def _logs(self, arm: ArmResults) -> list[Log]:
        logs = []
        for seed, run in arm.runs.items():
            try:
                logs.append(read_log(run['folder']))
            except ConfigError:
                self._add_problem(f'{arm.name}, seed {seed}: no log.jsonl with a curve')
        return logs

    def of_method(self, method: str) -> list[str]:
        """Return a method's curves, views, map and neighbours.

        Views, map and neighbours are those of the first seed under the first label of every axis.
        """
        arms = [arm for arm in self.study.arms if arm.method == method and arm.runs]
        if not arms:
            return []
        shown_arm = next((arm for arm in arms if self.study.at_baseline(arm)), arms[0])
        return [
            *self._curves(method, arms),
            *self._views(shown_arm),
            *self._embeddings(shown_arm),
        ]

    def _curves(self, method: str, arms: list[ArmResults]) -> list[str]:
        groups = {}
        for arm in arms:
            logs = self._logs(arm) if arm.trained else []
            if logs:
                label = ', '.join(f'{axis} {label}' for axis, label in arm.axes.items())
                groups[label or method] = logs
        existing_keys = logged_keys([log for logs in groups.values() for log in logs])
        keys = [key for key in DEFAULT_KEYS if key in existing_keys]
        if not keys:
            return []
        seeds = max(map(len, groups.values()))
        plural = 's' if seeds > 1 else ''
        return self._save_plot(
            plot_curves(groups, keys),
            f'curves {method}',
            f'{method}: {", ".join(KEY_TITLES[key] for key in keys)} over epochs',
            f'{method}: curves of {seeds} seed{plural}.',
        )

    def _views(self, arm: ArmResults) -> list[str]:
        path = _first_file(arm, 'views.png')
        if path is None or not arm.trained:
            return []
        try:
            content = as_jpeg(crop_rows(path, VIEWS_ROWS))
        except Exception as error:  # Pillow raises many types
            self._add_problem(f'{arm.name}: views.png cannot be read ({type(error).__name__})')
            return []
        return self._save_jpeg(
            content,
            f'views {arm.method}',
            f'{arm.method}: training images beside their views',
            f'{arm.method}: the images and their views.',
        )

    def _embeddings(self, arm: ArmResults) -> list[str]:
        path = _first_file(arm, 'map.npz')
        if path is None:
            return []
        try:
            embeddings = tsne.EmbeddingMap.load(path)
        except ValueError as error:
            self._add_problem(f'{arm.name}: map.npz cannot be read ({error})')
            return []
        return [*self._map(arm.method, embeddings), *self._neighbours(arm.method, embeddings)]

    def _map(self, method: str, embeddings: tsne.EmbeddingMap) -> list[str]:
        n = len(embeddings.labels)
        return self._save_plot(
            tsne.plot_map(embeddings, tsne.tsne(embeddings)),
            f'map {method}',
            f'{method}: t-SNE map of {n} test images by class',
            f'{method}: t-SNE of {n} test images (cosine distance, perplexity '
            f'{embeddings.perplexity:g}, random state 0). Distances between groups mean nothing.',
            PNG,
        )

    def _neighbours(self, method: str, embeddings: tsne.EmbeddingMap) -> list[str]:
        n = len(embeddings.labels)
        queries = tsne.first_of_each_class(embeddings.labels, QUERIES)
        neighbours = tsne.nearest_neighbours(embeddings, queries, min(NEIGHBOURS, n - 1))
        query_labels = embeddings.labels[queries][:, None]
        same_class = int((embeddings.labels[neighbours] == query_labels).sum())
        sheet = tsne.neighbours_sheet(embeddings, queries, neighbours)
        return self._save_jpeg(
            as_jpeg(sheet.draw()),
            f'neighbours {method}',
            f'{method}: {same_class} of {neighbours.size} nearest neighbours are of the class of '
            'their image',
            f'{method}: nearest among {n} test images (cosine). Tick and whole frame: same class '
            f'({same_class} of {neighbours.size}). Cross and dashed frame: another class.',
        )


def _first_file(arm: ArmResults, name: str) -> Path | None:
    """Return the file ``name`` of the first run that has such a file."""
    for run in arm.runs.values():
        path = run['folder'] / name
        if path.is_file():
            return path
    return None
