"""The report of a study: one HTML page that works offline, Markdown and CSV tables, figures."""

from pathlib import Path

from ssl_zoo.printable import one_line
from ssl_zoo.reports import html
from ssl_zoo.reports.html import Section
from ssl_zoo.reports.study.csv_files import arms_csv, runs_csv
from ssl_zoo.reports.study.label_free import label_free_table
from ssl_zoo.reports.study.report_figures import ReportFigures
from ssl_zoo.reports.study.reproduce import reproduce_html
from ssl_zoo.reports.study.tables import (
    accuracy_table,
    baseline_table,
    reference_table,
    tuning_table,
)
from ssl_zoo.reports.study.text_table import TextTable, escape_markdown
from ssl_zoo.storage.atomic import write_or_raise
from ssl_zoo.studies.results import StudyResults, read_study, record_name
from ssl_zoo.studies.tuning_results import tuning_results

METHODS_NOTE = (
    'Curves: means over seeds thick, seeds thin; losses of different methods are different '
    'quantities. Views: the first training images, each beside its views as the network sees them. '
    'Map and neighbours: test images by the features of the backbone, first seed; the images with '
    'neighbours are the first of their class in the list, not picked by hand.'
)


def write_report(out: str | Path) -> Path:
    """Write ``out/report/``: index.html, table.md, table.csv (arms), runs.csv and figures.

    For an unfinished study the report shows the records that exist.

    Args:
        out: folder of a study.

    Returns:
        The path of index.html.

    Raises:
        ConfigError: the folder holds no study, or the report cannot be written.
    """
    study = read_study(out)
    folder = Path(out, 'report')
    content = page_content(study, ReportFigures(study, folder))
    texts = {
        'table.md': markdown(study),
        'table.csv': arms_csv(study),
        'runs.csv': runs_csv(study),
        'index.html': html.page(study.definition['title'], content),
    }
    for name, text in texts.items():
        write_or_raise(folder / name, lambda file, text=text: file.write(text.encode()))
    return folder / 'index.html'


def markdown(study: StudyResults) -> str:
    """Return the tables and the open points of the report as Markdown."""
    definition = study.definition
    parts = [
        f'## {escape_markdown(one_line(definition["title"]))}\n',
        escape_markdown(definition.get('question') or '') + '\n',
    ]
    if definition['caveats']:
        parts += [_markdown_bullets(definition['caveats']), '']
    tables = (
        accuracy_table(study),
        reference_table(study),
        baseline_table(study),
        tuning_table(study),
        label_free_table(study),
    )
    parts += [table.as_markdown() for table in tables if table]
    points = open_points(study)
    if points:
        parts += ['### Failed, missing or doubtful\n', _markdown_bullets(points), '']
    return '\n'.join(parts)


def _markdown_bullets(texts: list[str]) -> str:
    return '\n'.join(f'- {escape_markdown(one_line(text))}' for text in texts)


def open_points(study: StudyResults) -> list[str]:
    """Return a sentence for everything that failed, is missing or is doubtful."""
    failures = [
        f'{record_name(record)} failed: {record.get("error") or "no error is recorded"}'
        for record in study.failures
    ]
    warnings = [
        f'tuning of {tuning.name}: {tuning.warning}'
        for tuning in tuning_results(study)
        if tuning.warning
    ]
    return failures + study.problems + study.missing + warnings


def page_content(study: StudyResults, figures: ReportFigures) -> str:
    """Draw and save the figures, and return the content of the page."""
    results = html.figure_grid(figures.accuracy()) or '<p>No run is finished yet.</p>\n'
    results += _table_html(accuracy_table(study)) + _table_html(reference_table(study))
    axes = html.figure_grid(figures.axes()) + _table_html(baseline_table(study))
    tuning = html.figure_grid(figures.tuning()) + _table_html(tuning_table(study))
    sections = [
        Section('Results', 'results', results),
        Section('Along the axes', 'axes', axes),
        Section('Accuracy against cost', 'cost', html.figure_grid(figures.cost())),
        Section('Tuning', 'tuning', tuning),
        Section('Curves', 'curves', html.figure_grid(figures.val_curves())),
        Section('Without labels', 'label_free', _label_free_html(study, figures)),
        Section('Method by method', 'methods', methods_html(study, figures)),
        Section('How to reproduce', 'reproduce', reproduce_html(study)),
    ]
    points = open_points(study)  # after the figures, because drawing may find more problems
    if points:
        missing = Section('Failed, missing or doubtful', 'missing', html.bullets(points))
        sections.insert(1, missing)
    sections = [section for section in sections if section.content]
    content = _head_html(study, sections) + _state_html(study, len(points))
    for section in sections:
        content += section.as_html()
    return content


def _label_free_html(study: StudyResults, figures: ReportFigures) -> str:
    table = label_free_table(study)
    return html.figure_grid(figures.label_free()) + table.as_html() if table else ''


def _table_html(table: TextTable | None) -> str:
    return table.as_html() if table else ''


def _head_html(study: StudyResults, sections: list[Section]) -> str:
    definition = study.definition
    content = (
        f'<h1>{html.escape(definition["title"])}</h1>\n'
        f'{html.paragraphs(definition.get("question") or "")}'
        f'{html.navigation(sections)}'
    )
    if definition['caveats']:
        content += (
            '<div class="box"><strong>What this study can and cannot show</strong>\n'
            f'{html.bullets(definition["caveats"])}</div>\n'
        )
    return content


def _state_html(study: StudyResults, open_points: int) -> str:
    """Return the number of finished runs, and a link to the open points."""
    finished = sum(len(arm.runs) for arm in study.trained)
    planned = len(study.trained) * len(study.definition['seeds'])
    failed = sum(record['kind'] == 'run' for record in study.failures)
    text = f'{finished} of {planned} runs are finished'
    if failed:
        text += f', {failed} failed'
    if not open_points:
        return f'<p>{text}.</p>\n'
    link = f'<a href="#missing">Failed, missing or doubtful: {open_points}</a>'
    return f'<div class="box warning">{text}. {link}</div>\n'


def methods_html(study: StudyResults, figures: ReportFigures) -> str:
    """Return the figures of each method, random weights first; '' if there are none."""
    untrained = [arm.method for arm in study.arms if not arm.trained]
    trained = [arm.method for arm in study.trained]
    blocks = ''
    for method in dict.fromkeys([*untrained, *trained]):
        figures_of_method = figures.of_method(method)
        if figures_of_method:
            blocks += f'<h3>{html.escape(method)}</h3>\n{html.figure_grid(figures_of_method)}'
    return html.note(METHODS_NOTE) + blocks if blocks else ''
