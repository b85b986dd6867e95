"""The curves of a run over epochs, and the table of its results."""

from ssl_zoo.errors import ConfigError
from ssl_zoo.evaluation.protocols.describe import describe_row
from ssl_zoo.reports import html
from ssl_zoo.reports.curves import KEY_TITLES, logged_keys, plot_curves, series
from ssl_zoo.reports.html import Cell, Column, Row, Table, text_cell
from ssl_zoo.reports.leaderboard_rows import ResultRow
from ssl_zoo.reports.run.records import RunRecords
from ssl_zoo.reports.style import figure_bytes
from ssl_zoo.studies.records import is_number

WIDTH = 4.4  # inches of a curve; a page shows it about 420 px wide
MAX_CURVES = 40  # a method may log any number of scalars
ONLINE_EVALUATION = (
    'Online evaluation (keys val/...) is of hold-out images, and of training images without a '
    'hold-out; epoch 0 is the network with random weights.'
)


def curves_html(records: RunRecords) -> str:
    """Return a figure for each scalar in log.jsonl, or a sentence."""
    keys = [key for key in logged_keys([records.log]) if series(records.log, key)]
    if not keys:
        return html.paragraphs('log.jsonl has no curve: the run has logged no scalar.')
    figures = [_curve(records, key) for key in keys[:MAX_CURVES]]
    content = html.figure_grid(figures)
    if not any(key.startswith('val/') for key in keys):
        content += html.paragraphs(
            'The run was not evaluated during training (online_eval.every=0), so there are no '
            'curves of k-NN, RankMe and feature std.'
        )
    else:
        content += html.note(ONLINE_EVALUATION)
    left_out = len(keys) - MAX_CURVES
    if left_out > 0:
        content += html.paragraphs(f'{left_out} further scalars are in log.jsonl.')
    return content


def _curve(records: RunRecords, key: str) -> str:
    """Return the figure of a scalar; its caption and alternative text have first and last value."""
    values = series(records.log, key)
    epochs = list(values)
    title = KEY_TITLES.get(key, key)
    named = f'{title} ({key})' if key in KEY_TITLES else title
    plot = plot_curves({'': [records.log]}, [key], columns=1, width=WIDTH)
    plot.set_size_inches(WIDTH, 2.6)
    first, last = values[epochs[0]], values[epochs[-1]]
    change = f'{first:.4g} at epoch {epochs[0]:.4g}, {last:.4g} at epoch {epochs[-1]:.4g}'
    span = f'least {min(values.values()):.4g}, greatest {max(values.values()):.4g}'
    return html.figure_of(
        figure_bytes(plot, 'svg'),
        '.svg',
        f'{title} over epochs: {change}; {span}',
        f'{named}: {change}.',
    )


def results_html(records: RunRecords) -> str:
    """Return the tables of all results, or a sentence."""
    content = label_free_html([row for row in records.rows if row.is_label_free])
    rows = [row for row in records.rows if not row.is_label_free]
    if not rows:
        sentence = html.paragraphs(
            'There are no results: results.jsonl has no row of an accuracy. A run writes rows at '
            'its end if it has labelled test or hold-out images; ssl-zoo knn and ssl-zoo linear '
            'add others.'
        )
        return sentence + content
    columns = ['metric', 'weights', 'value, %', '95 % interval or std', 'images', 'protocol']
    table = Table(
        [Column(title) for title in [*columns, 'test images', 'step', 'time']],
        [_result_row(row) for row in rows],
        'Results of the run',
        stacked=True,
    )
    note = html.note(
        'Each row of results.jsonl. The interval is of one network over the test images '
        '(bootstrap), the std over draws of labels; neither says how another training seed would '
        'come out. "None": the row records none.'
    )
    return table.as_html() + note + content


def label_free_html(rows: list[ResultRow]) -> str:
    """Return the table of measures without labels; '' for no rows."""
    if not rows:
        return ''
    titles = ['measure', 'weights', 'value', 'images', 'protocol', 'step', 'time']
    table = Table(
        [Column(title) for title in titles],
        [_label_free_row(row) for row in rows],
        'Measures without labels',
        stacked=True,
    )
    return f'<h3>Without labels</h3>\n{table.as_html()}'


def _label_free_row(row: ResultRow) -> Row:
    value = row.get('value', kind=(int, float))
    return Row(
        [
            text_cell(row.get('protocol', 'measure') or row.get('metric')),
            text_cell(_network(row)),
            Cell(f'{value:.4g}', css_class='number'),
            text_cell(_whole(row, 'n')),
            text_cell(_protocol(row)),
            text_cell(_whole(row, 'step')),
            text_cell(_time(row)),
        ]
    )


def _network(row: ResultRow) -> str:
    parts = [row.get(key) for key in ('weights', 'network', 'layer')]
    return ', '.join(text for text in parts if text)


def _whole(row: ResultRow, key: str) -> str:
    number = row.get(key, kind=int)
    return '' if number is None else f'{number:,}'


def _time(row: ResultRow) -> str:
    return (row.get('time') or '').replace('T', ' ').replace('+00:00', ' UTC')


def _result_row(row: ResultRow) -> Row:
    value = row.get('value', kind=(int, float))
    test = [str(row.get(key) or '') for key in ('test', 'test_manifest')]
    return Row(
        [
            text_cell(row.get('metric')),
            text_cell(_network(row)),
            Cell(f'{value:.2f}', css_class='number'),
            text_cell(_uncertainty(row)),
            text_cell(_whole(row, 'n')),
            text_cell(_protocol(row)),
            text_cell(' '.join(text for text in test if text)),
            text_cell(_whole(row, 'step')),
            text_cell(_time(row)),
        ]
    )


def _uncertainty(row: ResultRow) -> str:
    interval = row.get('ci95', kind=list) or []
    if len(interval) == 2 and all(map(is_number, interval)):
        return f'{interval[0]:.2f} to {interval[1]:.2f}'
    std = row.get('std', kind=(int, float))
    if std is None:
        return 'none'
    draws = row.get('draws', kind=int)
    return f'std {std:.2f}' + (f' over {draws} draws' if draws else '')


def _protocol(row: ResultRow) -> str:
    try:
        return describe_row(row.fields)
    except ConfigError:
        return 'not described'
