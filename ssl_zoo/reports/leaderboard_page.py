"""The leaderboard as one HTML page: a ranked table; with scripts also filters and sorting."""

from html import escape

from ssl_zoo.reports import html
from ssl_zoo.reports.html import Cell, Column, Row, Table
from ssl_zoo.reports.leaderboard import Entry, Leaderboard, number_of
from ssl_zoo.reports.leaderboard_text import SPLIT_NOTE, shorten, value_text

COLUMNS = [
    Column('rank', number=True),
    Column('test set'),
    Column('metric'),
    Column('method'),
    Column('value', number=True, greatest_first=True),
    Column('95 % interval', number=True, greatest_first=True),
    Column('weights, network, layer'),
    Column('protocol'),
    Column('epochs', number=True, greatest_first=True),
    Column('seeds'),
    Column('seconds', number=True),
    Column('device'),
    Column('checkpoint, command'),
]

# Without the script the page shows all rows. The script hides rows, and writes text, never HTML.
FILTER_SCRIPT = """
const byId = id => document.getElementById(id);
const rows = [...document.querySelector('tbody').rows];
const metric = byId('metric');
const test = byId('test');
const words = byId('words');

function matches(row) {
  const wanted = words.value.toLowerCase().split(/\\s+/);
  return (!metric.value || row.dataset.metric === metric.value)
    && (!test.value || row.dataset.test === test.value)
    && wanted.every(word => row.dataset.words.includes(word));
}

function filter() {
  const marks = new Set();
  let shown = 0;
  for (const row of rows) {
    row.hidden = !matches(row);
    if (!row.hidden) {
      shown += 1;
      marks.add(row.dataset.mark);
    }
  }
  byId('count').textContent = `${shown} of ${rows.length} figures shown`;
  byId('marks').hidden = marks.size < 2;
  byId('marks').textContent = `The rows shown are of ${marks.size} test sets `
    + `(${[...marks].join(', ')}): figures of different test sets do not compare. `
    + 'A rank holds within one test set, one metric and one set of training labels.';
}

for (const control of [metric, test, words]) control.addEventListener('input', filter);
byId('controls').addEventListener('submit', event => event.preventDefault());
byId('controls').hidden = false;
filter();
"""


def page(board: Leaderboard) -> str:
    """Return the page. All text that comes from a row is escaped."""
    table = Table(
        COLUMNS,
        [_row(entry) for entry in board.entries],
        label='Figures',
        sortable=True,
        stacked=True,
    )
    content = '\n'.join(
        ['<h1>Leaderboard</h1>', _notes(board), _controls(board.entries), table.as_html()]
    )
    script = FILTER_SCRIPT + html.SORT_SCRIPT
    return html.page('Leaderboard', content, script, wide=True)


def _notes(board: Leaderboard) -> str:
    """Return sentences on what an entry is and which rows are left out."""
    content = html.paragraphs(
        f'{len(board.entries)} figures of {board.rows} rows in {board.files} files. Rows that '
        f'differ in the seed alone are one figure: mean, sample standard deviation, number of '
        f'seeds. Ranks hold within one metric, one test set, the same number of its images, the '
        f'same bank (number and hash of the training labels that the evaluation learnt from) and '
        f'the same training labels. '
        f'Equal letters are equal test sets, by the hash of their images.'
    )
    if board.split:
        content += html.paragraphs(f'{board.split} {SPLIT_NOTE}')
    again = sum(entry.again for entry in board.entries)
    if again:
        content += html.paragraphs(
            f'{again} rows are left out: the same seed was measured again later.'
        )
    if board.damaged:
        summary = f'{len(board.damaged)} damaged lines are left out'
        content += html.details(summary, html.bullets(board.damaged))
    return content


def _controls(entries: list[Entry]) -> str:
    """Return the filters, hidden until the script runs, and the elements that the script fills."""
    metrics = {entry.metric: entry.metric for entry in entries}
    by_mark = sorted(entries, key=lambda e: (not e.mark, len(e.mark), e.mark))
    tests = {_test_key(e): f'{e.mark or "?"}: {e.test} {e.manifest}' for e in by_mark}
    hidden = '' if len(tests) > 1 else ' hidden'
    return f"""<form id="controls" class="controls" role="search" hidden>
<label>metric<select id="metric">{_options(metrics)}</select></label>
<label>test set<select id="test">{_options(tests)}</select></label>
<label>words in a row<input id="words" type="search" autocomplete="off" placeholder="byol online">
</label>
</form>
<p id="count" role="status"></p>
<p id="marks" class="box warning" role="status"{hidden}>Figures of different test sets do not
compare.</p>"""


def _test_key(entry: Entry) -> str:
    """Return the value that the filter compares: the mark, or the name of an unmarked test set."""
    return f'{entry.mark}|{"" if entry.mark else entry.test}'


def _options(names: dict[str, str]) -> str:
    """Return the options of a select box: first 'all', then each value with its name."""
    options = ['<option value="">all</option>']
    for value, name in names.items():
        options.append(f'<option value="{escape(value)}">{escape(name)}</option>')
    return ''.join(options)


def _row(entry: Entry) -> Row:
    network = ', '.join(part for part in (entry.weights, entry.network, entry.layer) if part)
    cells = [
        _rank_cell(entry),
        _test_cell(entry),
        Cell(escape(entry.metric).replace('_', '_<wbr>'), entry.metric),
        _method_cell(entry),
        _value_cell(entry),
        _interval_cell(entry),
        Cell(escape(network), network),
        Cell(escape(entry.protocol), entry.protocol, 'long'),
        _number_cell(entry.epochs, 'g'),
        _seeds_cell(entry),
        _seconds_cell(entry),
        Cell(escape(entry.device), entry.device),
        _files_cell(entry),
    ]
    words = (
        entry.metric,
        entry.method,
        entry.config,
        network,
        entry.labels(),
        entry.protocol,
        entry.test,
        entry.manifest,
        entry.bank_text(),
        entry.warnings,
        entry.device,
        entry.checkpoint,
        entry.command,
    )
    data = dict(
        metric=entry.metric,
        test=_test_key(entry),
        mark=entry.mark or '?',
        words=' '.join(words).lower(),
    )
    return Row(cells, data)


def _small(content: str) -> str:
    return f'<small>{content}</small>'


def _number_cell(value: float | None, number_format: str) -> Cell:
    if value is None:
        return Cell('', css_class='number')
    return Cell(format(value, number_format), repr(value), 'number')


def _rank_cell(entry: Entry) -> Cell:
    if entry.rank is None:
        content = '<span title="the images are not known">not ranked</span>'
        return Cell(content, css_class='number')
    return _number_cell(entry.rank, 'd')


def _test_cell(entry: Entry) -> Cell:
    manifest = escape(entry.manifest) or 'images not known'
    images = '' if entry.images is None else f', {entry.images:,} images'
    badge = html.badge(entry.mark or '?', number_of(entry.mark))
    bank = escape(entry.bank_text())
    content = f'{badge} {escape(entry.test)}{_small(manifest + images)}{_small(bank)}'
    if entry.labels():
        content += _small(f'trained on {escape(entry.labels())}')
    for text in entry.warnings.splitlines():
        content += _small(f'warning: {escape(text)}')
    return Cell(content, f'{entry.mark} {entry.test}')


def _method_cell(entry: Entry) -> Cell:
    content = escape(entry.method)
    if entry.config:
        shown = escape(shorten(entry.config))
        content += f'<small title="{escape(entry.config)}">{shown}</small>'
    return Cell(content, entry.method)


def _value_cell(entry: Entry) -> Cell:
    value, _, deviation = value_text(entry).partition(' ')
    content = value + (_small(escape(deviation)) if deviation else '')
    return Cell(content, repr(entry.value), 'number')


def _interval_cell(entry: Entry) -> Cell:
    if entry.interval is None:
        return Cell('', css_class='number')
    low, high = entry.interval
    return Cell(f'{low:.2f} to {high:.2f}', repr(low), 'number')


def _seeds_cell(entry: Entry) -> Cell:
    content = escape(entry.seeds)
    if entry.again:
        content += _small(f'{entry.again} measured again')
    return Cell(content, entry.seeds)


def _seconds_cell(entry: Entry) -> Cell:
    is_long = entry.seconds is not None and entry.seconds >= 10
    return _number_cell(entry.seconds, ',.0f' if is_long else '.1f')


def _files_cell(entry: Entry) -> Cell:
    """Return a cell with the checkpoints and commands of the runs, hidden until a click."""
    content = ''
    for name, text in (('checkpoint', entry.checkpoint), ('command', entry.command)):
        if text:
            content += html.details(name, f'<code>{escape(text)}</code>')
    return Cell(content, entry.checkpoint)
