"""The page of a run: one HTML file that works offline."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from ssl_zoo.errors import ConfigError
from ssl_zoo.evaluation.metrics import accuracy, interval
from ssl_zoo.printable import one_line
from ssl_zoo.reports import html, tsne
from ssl_zoo.reports.html import Section
from ssl_zoo.reports.run.analysis import Analysis, ImageOptions, analyse
from ssl_zoo.reports.run.confusions import confusions_html
from ssl_zoo.reports.run.facts import cost_html, facts_html, method_name, reproduce_html
from ssl_zoo.reports.run.figures import curves_html, results_html
from ssl_zoo.reports.run.maps_section import attention_html, component_maps_html
from ssl_zoo.reports.run.neighbours import neighbours_html, same_class_shares
from ssl_zoo.reports.run.records import RunRecords
from ssl_zoo.reports.style import figure_bytes
from ssl_zoo.storage.atomic import atomic_write, check_regular

MAP_IMAGES = 500  # images in the t-SNE map
MIN_MAP_IMAGES = 10
WITHOUT_IMAGES = (
    'This page was made with --no-images; without that option it shows neighbours, maps and '
    'confusions.'
)
START = b'<!DOCTYPE html>'  # the page replaces no file of another kind


def write_run_report(
    run: str | Path,
    out: str | Path | None = None,
    images: bool = True,
    image_options: ImageOptions | None = None,
    report: Callable[[str], object] = print,
    reload: int | None = None,
) -> Path:
    """Write the page of a run.

    Args:
        run: the work directory.
        out: the HTML file; None for report.html in the work directory.
        images: whether networks are loaded and images shown; False for curves and facts alone.
        image_options: how networks and images are read. If any is given, images that cannot be
            shown are an error; else the page says why they are not there.
        report: called with a sentence before each long part.
        reload: seconds after which a browser reads the page again, for a run that goes on; None
            for never.

    Returns:
        The path of the page.

    Raises:
        ConfigError: ``run`` is no work directory of a run, ``reload`` is below 1, or the page
            cannot be written.
    """
    if reload is not None and reload < 1:
        raise ConfigError(f'--reload is {reload} seconds, but it must be at least 1')
    records = RunRecords.read(run)
    path = Path(out) if out else records.folder / 'report.html'
    _write(path)
    analysis, reason = None, WITHOUT_IMAGES
    if images:
        analysis, reason = _analysis(records, image_options, report)
    if reason and images:
        report(reason)
    content = page_content(records, analysis, reason, _live_note(reload))
    title = f'{method_name(records)}: {one_line(records.folder.resolve().name)}'
    page = html.page(title, content, reload=reload)
    _write(path, page)
    return path


def _live_note(reload: int | None) -> str:
    """Return the box of a page that the browser reads again; '' for others."""
    if reload is None:
        return ''
    now = datetime.now(UTC).strftime('%Y-%m-%d %H:%M:%S UTC')
    return f'<div class="box">Written {now}, read again every {reload} seconds.</div>\n'


def _write(path: Path, page: str = '') -> None:
    """Write the page; '' only checks, before the long work, that no other file is there."""
    try:
        if page:
            atomic_write(path, lambda file: file.write(page.encode()), START)
        else:
            check_regular(path, START)
    except OSError as error:
        raise ConfigError(
            f'could not write {path}: {error}; free some space, or choose another file with --out'
        ) from None


def _analysis(
    records: RunRecords, image_options: ImageOptions | None, report: Callable[[str], object]
) -> tuple[Analysis | None, str]:
    """Return the analysis, or None and the reason in a sentence."""
    if records.checkpoint is None:
        return None, 'Images are not shown: the run has no checkpoint that can be read.'
    try:
        return analyse(records, image_options or ImageOptions(), report), ''
    except ConfigError as error:
        if image_options:
            raise
        return None, f'Images are not shown: {error}.'


def page_content(
    records: RunRecords, analysis: Analysis | None, reason: str, note: str = ''
) -> str:
    """Return the content of the page.

    Args:
        records: the run.
        analysis: what is shown of images, or None.
        reason: why there is no analysis, in a sentence.
        note: HTML below the title.
    """
    sections = [
        Section('Facts', 'facts', facts_html(records)),
        Section('Results', 'results', results_html(records)),
        Section('Curves', 'curves', curves_html(records)),
        *_image_sections(records, analysis, reason),
        Section('Cost', 'cost', cost_html(records)),
        Section('How to run it again', 'reproduce', reproduce_html(records)),
    ]
    if records.problems:
        problems = html.bullets([one_line(text) for text in records.problems])
        sections.insert(1, Section('Missing or damaged', 'missing', problems))
    name = html.escape(one_line(records.folder.resolve().name))
    head = f'<h1>{html.escape(method_name(records))}: {name}</h1>\n{html.navigation(sections)}'
    return head + note + ''.join(section.as_html() for section in sections)


def _image_sections(records: RunRecords, analysis: Analysis | None, reason: str) -> list[Section]:
    titles = {
        'neighbours': 'Nearest neighbours',
        'map': 't-SNE of features',
        'confusions': 'Worst confusions',
        'components': 'Maps of features',
        'attention': 'Attention',
    }
    if analysis is None:
        text = html.paragraphs(reason)
        return [Section('Images', 'images', text)]
    contents = {
        'neighbours': _neighbours(records, analysis),
        'map': _map(analysis),
        'confusions': _confusions(analysis),
        'components': _components(analysis),
        'attention': _attention(analysis),
    }
    return [Section(titles[anchor], anchor, text) for anchor, text in contents.items()]


def _neighbours(records: RunRecords, analysis: Analysis) -> str:
    shown = analysis.sample
    classes = shown.classes if shown.labelled else []
    text = (
        f'{len(analysis.queries)} {shown.test_name}, the same for every run on these data, and '
        f'their nearest of {len(shown.bank):,} of {shown.bank_total:,} training images, by cosine '
        f'of the features ({analysis.network}).'
    )
    if len(analysis.neighbours) == 2:
        text += ' No earlier checkpoint exists any more; checkpoint.keep_every keeps some.'
    content = html.paragraphs(text)
    if records.setting('method', 'backbone', 'pretrained'):
        content += html.paragraphs(
            'The run began with pretrained weights, which are not fetched for this page: the '
            'random weights are not those that it began with.'
        )
    if shown.labelled:
        content += html.bullets(
            same_class_shares(analysis.queries, analysis.neighbours, analysis.bank_labels)
        )
    else:
        content += html.paragraphs('The images have no labels, so no class is marked.')
    return content + neighbours_html(
        analysis.queries, analysis.neighbours, analysis.bank_labels, classes
    )


def _map(analysis: Analysis) -> str:
    shown, test = analysis.sample, analysis.test
    n = len(test.values)
    if n < MIN_MAP_IMAGES:
        return html.paragraphs(f'{n} images are too few for a map.')
    rows = np.unique(np.linspace(0, n - 1, MAP_IMAGES).astype(int))
    labels = test.labels[rows] if shown.labelled else np.zeros(len(rows), np.int64)
    classes = shown.classes if shown.labelled else ['images without labels']
    no_pixels = np.zeros((len(rows), 1, 1, 3), np.uint8)
    embeddings = tsne.EmbeddingMap(test.values[rows], labels, classes, no_pixels)
    plot = tsne.plot_map(embeddings, tsne.tsne(embeddings))
    figure = html.figure_of(
        figure_bytes(plot, 'png'),
        '.png',
        f't-SNE map of {len(rows)} {shown.test_name} by class',
        f't-SNE of {len(rows)} {shown.test_name}, newest checkpoint (cosine distance, perplexity '
        f'{embeddings.perplexity:g}, random state 0). Distances between groups mean nothing.',
    )
    return html.figure_grid([figure])


def _confusions(analysis: Analysis) -> str:
    if analysis.predicted is None:
        return html.paragraphs('The images have no labels, so there are no confusions.')
    shown, test = analysis.sample, analysis.test
    low, high = interval('top1', analysis.predicted, test.labels)
    text = (
        f'Newest checkpoint, k-NN vote of the {analysis.k} nearest of '
        f'{len(analysis.bank.values):,} training images: '
        f'{accuracy(analysis.predicted, test.labels):.2f} % (95 % interval {low:.2f} to '
        f'{high:.2f}) of {len(test.values):,} {shown.test_name} are right. The table below is of '
        f'this vote; figures to report are those of the results.'
    )
    warnings = list(dict.fromkeys([*shown.test.warnings, *shown.bank.warnings]))
    content = html.paragraphs(text) + (html.bullets(warnings) if warnings else '')
    if not analysis.confusions:
        return content + html.paragraphs('No image is predicted wrongly.')
    return content + confusions_html(analysis.confusions, analysis.examples, shown.classes)


def _components(analysis: Analysis) -> str:
    if analysis.no_maps:
        return html.paragraphs(f'There are no maps: {analysis.no_maps}.')
    return component_maps_html(analysis.query_pixels, analysis.maps)


def _attention(analysis: Analysis) -> str:
    if analysis.attention is None:
        return html.paragraphs(f'There are no maps of attention: {analysis.no_attention}.')
    return attention_html(analysis.query_pixels, analysis.attention)
