"""The leaderboard as one HTML file, which loads nothing from anywhere. Without scripts it is a table in the order of the ranks."""

from html import escape
from pathlib import Path

from ssl_zoo.errors import ConfigError
from ssl_zoo.reports.leaderboard import Board, Figure, board, labels_of
from ssl_zoo.reports.leaderboard_text import as_csv, figure_text, shortened, text
from ssl_zoo.storage.atomic import atomic_write

# Name, whether its values are numbers, and what a first click should bring to the top: 1 the least, -1 the greatest.
COLUMNS = (
    ('rank', True, 1),
    ('test set', False, 1),
    ('metric', False, 1),
    ('method', False, 1),
    ('value', True, -1),
    ('95 % interval', True, -1),
    ('weights, network, layer', False, 1),
    ('protocol', False, 1),
    ('epochs', True, -1),
    ('seeds', False, 1),
    ('seconds', True, 1),
    ('device', False, 1),
    ('checkpoint, command', False, 1),
)
HUES = 8  # of the marks; the letter says it, the colour helps

STYLE = """
:root { color-scheme: light dark; --line: #c8c8c8; --soft: #f1f3f5; --text: #1b1b1b; --back: #fff; --link: #0b57a4; }
@media (prefers-color-scheme: dark) { :root { --line: #4a4a4a; --soft: #24272b; --text: #e8e8e8; --back: #16181a; --link: #8cc4ff; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; font: 15px/1.4 system-ui, sans-serif; color: var(--text); background: var(--back); }
h1 { font-size: 1.4rem; margin: 0 0 .5rem; }
p { margin: .4rem 0; max-width: 60rem; }
form { display: flex; flex-wrap: wrap; gap: .6rem 1rem; margin: .8rem 0; }
form[hidden], .note[hidden] { display: none; }
form label { display: flex; flex-direction: column; font-size: .85rem; min-width: 10rem; max-width: 100%; }
select, input { font: inherit; padding: .3rem; max-width: 22rem; width: 100%; color: inherit; background: var(--back);
  border: 1px solid #808080; border-radius: 4px; }
.note { border-left: 5px solid #d55e00; background: var(--soft); padding: .5rem .8rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .87rem; }
th, td { text-align: left; vertical-align: top; padding: .35rem .5rem; border-bottom: 1px solid var(--line); }
thead th { background: var(--soft); position: sticky; top: 0; }
th button { all: unset; cursor: pointer; font-weight: 600; }
th button:focus-visible, select:focus-visible, input:focus-visible, summary:focus-visible, .scroll:focus-visible {
  outline: 3px solid var(--link); outline-offset: 2px; }
th[aria-sort=ascending] button::after { content: " \\2191"; }
th[aria-sort=descending] button::after { content: " \\2193"; }
td.number { font-variant-numeric: tabular-nums; white-space: nowrap; }
td.long { min-width: 13rem; overflow-wrap: anywhere; }
small { display: block; opacity: .8; overflow-wrap: anywhere; }
.mark { display: inline-block; min-width: 1.6em; text-align: center; font-weight: 700; border: 2px solid; border-radius: 4px; }
code { white-space: pre-wrap; overflow-wrap: anywhere; font-size: .8rem; }
summary { cursor: pointer; color: var(--link); }
.narrow { display: none; }
@media (max-width: 760px) {
  form label.narrow { display: flex; }
  thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  table, tbody, tr, td { display: block; width: 100%; }
  tr { border: 1px solid var(--line); border-radius: 6px; margin-bottom: .8rem; padding: .3rem; }
  tr[hidden] { display: none; }
  td { display: grid; grid-template-columns: 7.5rem 1fr; gap: .5rem; border: 0; padding: .15rem .3rem; }
  td::before { content: attr(data-label); font-weight: 600; }
  td.number { white-space: normal; }
  td.long { min-width: 0; }
}
"""

# The rows are in the page as they are shown; the script hides and orders them and writes text only as text.
SCRIPT = """
(() => {
  const byId = id => document.getElementById(id), body = document.querySelector('tbody'), rows = [...body.rows];
  const heads = [...document.querySelectorAll('thead th')], metric = byId('metric'), test = byId('test'), words = byId('words');
  const order = byId('order'), marks = byId('marks'), count = byId('count');
  const shown = row => (!metric.value || row.dataset.metric === metric.value) && (!test.value || row.dataset.test === test.value)
    && words.value.toLowerCase().split(/\\s+/).every(word => row.dataset.words.includes(word));
  function filter() {
    const sets = new Set();
    let n = 0;
    for (const row of rows) {
      row.hidden = !shown(row);
      if (!row.hidden) { n += 1; sets.add(row.dataset.mark); }
    }
    count.textContent = `${n} of ${rows.length} figures shown`;
    marks.hidden = sets.size < 2;
    marks.textContent = `The rows shown are of ${sets.size} test sets (${[...sets].join(', ')}): figures of different test sets do not ` +
      'compare. A rank holds within one test set, one metric and one set of training labels.';
  }
  function sort(column, direction) {
    const number = heads[column].dataset.number === '1', key = row => row.cells[column].dataset.key;
    const compare = (a, b) => {
      const [x, y] = [key(a), key(b)];
      if (x === '' || y === '') return (x === '') - (y === '');
      return direction * (number ? x - y : x.localeCompare(y, 'en', {numeric: true}));
    };
    body.append(...[...rows].sort(compare));
    heads.forEach((head, i) => i === column ? head.setAttribute('aria-sort', direction > 0 ? 'ascending' : 'descending')
      : head.removeAttribute('aria-sort'));
    order.value = `${column} ${direction}`;
  }
  heads.forEach((head, i) => {
    const label = head.textContent, button = document.createElement('button');
    button.type = 'button';
    button.textContent = label;
    head.replaceChildren(button);
    const first = Number(head.dataset.first);
    button.addEventListener('click', () => {
      const now = {ascending: 1, descending: -1}[head.getAttribute('aria-sort')];
      sort(i, now ? -now : first);
    });
    for (const direction of [first, -first])
      order.append(new Option(`${label}, ${direction > 0 ? 'least' : 'greatest'} first`, `${i} ${direction}`));
  });
  order.selectedIndex = -1;
  order.addEventListener('change', () => sort(...order.value.split(' ').map(Number)));
  for (const control of [metric, test, words]) control.addEventListener('input', filter);
  byId('controls').addEventListener('submit', event => event.preventDefault());
  byId('controls').hidden = false;
  filter();
})();
"""


def page(found: Board) -> str:
    """The page as text; everything in it that comes from a row is escaped."""
    figures = found.figures
    metrics = dict.fromkeys(f.metric for f in figures)
    tests = {
        _test(f): f'{f.mark or "?"}: {f.test} {f.manifest}'
        for f in sorted(figures, key=lambda f: (not f.mark, len(f.mark), f.mark))
    }
    again = sum(f.again for f in figures)
    notes = [
        f'{len(figures)} figures of {found.rows} rows in {found.files} files. Rows that differ in the seed alone are one figure: '
        f'mean, sample standard deviation, number of seeds. Ranks hold within one metric, one test set, as many '
        f"images of it and the same training labels; equal letters are equal test sets, by the hash of their images' names and "
        f'labels.'
    ]
    notes += (
        [f'{again} rows are left out: the same seed was measured again later.'] if again else []
    )
    damage = (
        (
            f'<details><summary>{len(found.damaged)} damaged lines are left out</summary><ul>'
            + ''.join(f'<li>{escape(line)}</li>' for line in found.damaged)
            + '</ul></details>'
        )
        if found.damaged
        else ''
    )
    several = len(tests) > 1
    heads = ''.join(
        f'<th scope="col" role="columnheader" data-number="{int(number)}" data-first="{first}">{escape(name)}</th>'
        for name, number, first in COLUMNS
    )
    return f'''<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Leaderboard</title>
<style>{STYLE}</style>
</head>
<body>
<h1>Leaderboard</h1>
{''.join(f'<p>{escape(note)}</p>' for note in notes)}
{damage}
<form id="controls" role="search" hidden>
<label>metric<select id="metric">{_options('all', {m: m for m in metrics})}</select></label>
<label>test set<select id="test">{_options('all', tests)}</select></label>
<label>words in a row<input id="words" type="search" autocomplete="off" placeholder="byol online"></label>
<label class="narrow">order<select id="order"></select></label>
</form>
<p id="count" role="status"></p>
<p id="marks" class="note" role="status"{'' if several else ' hidden'}>Figures of different test sets do not compare.</p>
<div class="scroll" role="region" aria-label="Figures" tabindex="0">
<table role="table">
<thead role="rowgroup"><tr role="row">{heads}</tr></thead>
<tbody role="rowgroup">
{chr(10).join(map(_row, figures))}
</tbody>
</table>
</div>
<script>{SCRIPT}</script>
</body>
</html>
'''


def _test(f: Figure) -> str:
    return f'{f.mark}|{"" if f.mark else f.test}'


def _options(everything: str, names: dict[str, str]) -> str:
    return f'<option value="">{everything}</option>' + ''.join(
        f'<option value="{escape(value)}">{escape(name)}</option>' for value, name in names.items()
    )


def _row(f: Figure) -> str:
    number, hue = '' if f.rank is None else str(f.rank), number_of(f.mark) % HUES * 360 // HUES
    who = ', '.join(part for part in (f.weights, f.network, f.layer) if part)
    low, high = f.interval or (None, None)
    seconds = (
        '' if f.seconds is None else f'{f.seconds:,.0f}' if f.seconds >= 10 else f'{f.seconds:.1f}'
    )
    images = f', {f.images:,} images' if f.images is not None else ''
    labels = labels_of(f)
    more = ''.join(
        f'<details><summary>{name}</summary><code>{escape(content)}</code></details>'
        for name, content in (('checkpoint', f.checkpoint), ('command', f.command))
        if content
    )
    cells = [  # what is compared, what is shown, class
        (number, number or '<span title="the images are not known">not ranked</span>', 'number'),
        (
            f'{f.mark} {f.test}',
            f'<span class="mark" style="border-color: hsl({hue} 60% 50%)">{escape(f.mark) or "?"}</span> '
            f'{escape(f.test)}<small>{escape(f.manifest) or "images not known"}{images}</small>'
            + (f'<small>trained on {escape(labels)}</small>' if labels else ''),
            '',
        ),
        (f.metric, escape(f.metric).replace('_', '_<wbr>'), ''),
        (
            f.method,
            escape(f.method)
            + (
                f'<small title="{escape(f.config)}">{escape(shortened(f.config))}</small>'
                if f.config
                else ''
            ),
            '',
        ),
        (
            repr(f.value),
            escape(figure_text(f)).replace(' (', '<small>(', 1)
            + ('</small>' if f.std is not None else ''),
            'number',
        ),
        (
            '' if low is None else repr(low),
            '' if low is None else f'{low:.2f} to {high:.2f}',
            'number',
        ),
        (who, escape(who), ''),
        (f.protocol, escape(f.protocol), 'long'),
        (
            '' if f.epochs is None else repr(f.epochs),
            '' if f.epochs is None else f'{f.epochs:g}',
            'number',
        ),
        (
            f.seeds,
            escape(f.seeds) + (f'<small>{f.again} measured again</small>' if f.again else ''),
            '',
        ),
        ('' if f.seconds is None else repr(f.seconds), seconds, 'number'),
        (f.device, escape(f.device), ''),
        (f.checkpoint, more, ''),
    ]
    words = ' '.join(
        (
            f.metric,
            f.method,
            f.config,
            who,
            labels,
            f.protocol,
            f.test,
            f.manifest,
            f.device,
            f.checkpoint,
            f.command,
        )
    ).lower()
    inside = ''.join(
        f'<td role="cell" data-label="{escape(name)}" data-key="{escape(key)}"{f" class={kind}" if kind else ""}>'
        f'<div>{content}</div></td>'
        for (name, _, _), (key, content, kind) in zip(COLUMNS, cells, strict=True)
    )
    return (
        f'<tr role="row" data-metric="{escape(f.metric)}" data-test="{escape(_test(f))}" data-mark="{escape(f.mark or "?")}" '
        f'data-words="{escape(words)}">{inside}</tr>'
    )


def number_of(mark: str) -> int:
    """A number of a mark: A 0, B 1 ..."""
    return sum((ord(c) - ord('A') + 1) * 26**i for i, c in enumerate(reversed(mark))) - 1


def publish(
    paths: list[str], metrics: list[str] | None, out: Path, table: Path | None = None
) -> None:
    """Print the table, write the page and, if asked for, the CSV. Raises ConfigError, see ``board``; a file that cannot be written."""
    found = board(paths, metrics)
    print(text(found))
    for path, content in ((out, lambda: page(found)), (table, lambda: as_csv(found.figures))):
        if path is not None:
            data = content().encode(errors='replace')
            try:
                atomic_write(path, lambda file, data=data: file.write(data))
            except OSError as error:
                raise ConfigError(f'could not write {path}: {error}; choose another file') from None
            print(f'written: {path}')
