"""HTML elements of all reports: one page template, one style sheet, tables, figures, lists.

A page is one file and loads nothing from the network: pictures are data URIs, style and script are
inline, and the content security policy forbids everything else. Functions escape an argument named
``text``, and expect HTML in an argument named ``content``.
"""

import base64
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

MEDIA_TYPES = {'.png': 'image/png', '.svg': 'image/svg+xml', '.jpg': 'image/jpeg'}
LONG_LINE = 45  # characters: a table cell with a longer line wraps
BADGE_HUES = 8  # colours of badges; the letter identifies a badge, the colour only helps

STYLE = """
:root {
  color-scheme: light dark;
  --back: #fff; --text: #1b1b1b; --faint: #5a5a5a; --line: #d5d5d5; --box: #f4f5f7;
  --warning: #b34700; --link: #0b57a4; --same: #0b57a4; --other: #b34700;
}
@media (prefers-color-scheme: dark) {
  :root {
    --back: #16181b; --text: #e6e6e6; --faint: #a8adb3; --line: #3b4046; --box: #202429;
    --warning: #ffa45c; --link: #8cc4ff; --same: #8cc4ff; --other: #ffa45c;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 1rem; max-width: 1340px; background: var(--back); color: var(--text);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif;
  overflow-wrap: break-word;
}
body.wide { max-width: none; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: .5rem 0; }
h2 {
  font-size: 1.3rem; margin: 2.2rem 0 .5rem; padding-top: .5rem;
  border-top: 1px solid var(--line);
}
h3 { font-size: 1.05rem; margin: 1.3rem 0 .4rem; }
p, ul { max-width: 75ch; margin: .4rem 0; }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1rem; margin: .6rem 0; }
a { color: var(--link); }
summary { cursor: pointer; color: var(--link); }
:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; }
small { display: block; color: var(--faint); overflow-wrap: anywhere; }
code { white-space: pre-wrap; overflow-wrap: anywhere; font-size: .8rem; }
pre {
  background: var(--box); padding: .6rem .8rem; overflow-x: auto; font-size: .82rem;
  max-height: 30rem;
}
details { margin: .5rem 0; }
[hidden] { display: none !important; }

.note { color: var(--faint); font-size: .87rem; max-width: 105ch; }
.box {
  background: var(--box); border-left: 4px solid var(--line); padding: .5rem .9rem; margin: .8rem 0;
}
.box.warning { border-left-color: var(--warning); }
.badge {
  display: inline-block; min-width: 1.6em; text-align: center; font-weight: 700;
  border: 2px solid; border-radius: 4px;
}

.figures {
  display: grid; gap: 1rem; align-items: start;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 400px), 1fr));
}
figure { margin: 0; max-width: 480px; min-width: 0; }
figure img {
  display: block; width: 100%; height: auto; background: #fff; border: 1px solid var(--line);
  border-radius: 4px;
}
figcaption { color: var(--faint); font-size: .87rem; padding: .3rem 0; }
img.thumbnail {
  display: block; width: 72px; height: 72px; object-fit: contain; border: 3px solid transparent;
}
img.thumbnail[src^="data:image/png"] { image-rendering: pixelated; }
div.blocks {
  display: grid; gap: 0 2rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 600px), 1fr));
}
div.blocks > div { min-width: 0; }
div.thumbnails { display: flex; flex-wrap: wrap; gap: .3rem; }
img.same { border-color: var(--same); }
img.other { border-color: var(--other); border-style: dashed; }
td .same { color: var(--same); }
td .other { color: var(--other); }

form.controls { display: flex; flex-wrap: wrap; gap: .6rem 1rem; margin: .8rem 0; }
label {
  display: flex; flex-direction: column; font-size: .85rem; min-width: 10rem; max-width: 100%;
}
select, input {
  font: inherit; padding: .3rem; max-width: 22rem; width: 100%; color: inherit;
  background: var(--back); border: 1px solid #808080; border-radius: 4px;
}
label.narrow { display: none; }

.scroll { overflow-x: auto; max-width: 100%; }
table {
  border-collapse: separate; border-spacing: 0; font-size: .87rem;
  font-variant-numeric: tabular-nums;
}
th, td {
  border-bottom: 1px solid var(--line); padding: .3rem .6rem; text-align: left;
  vertical-align: top; white-space: nowrap;
}
thead th { white-space: normal; vertical-align: bottom; background: var(--box); }
th[scope=row] {
  position: sticky; left: 0; background: var(--back); font-weight: 600; white-space: normal;
  min-width: 6rem;
}
.blocks th, .blocks td { padding: .3rem .25rem; }
.blocks td { white-space: normal; min-width: 7.1rem; }
td.long { white-space: normal; min-width: 13rem; max-width: 45rem; overflow-wrap: anywhere; }
td.wrap { white-space: normal; max-width: 45rem; overflow-wrap: anywhere; }
th button { all: unset; cursor: pointer; font-weight: 600; }
th button:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; }
th[aria-sort=ascending] button::after { content: " \\2191"; }
th[aria-sort=descending] button::after { content: " \\2193"; }
table.stacked { width: 100%; }
.stacked th, .stacked td { padding: .35rem .45rem; }
.stacked details { margin: 0; }
table.stacked td { white-space: normal; }
table.stacked td.number { white-space: nowrap; }

@media (max-width: 760px) {
  .blocks th[scope=row] { min-width: 4.5rem; }
  label.narrow { display: flex; margin: .8rem 0; }
  table.stacked thead {
    position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%);
  }
  table.stacked, .stacked tbody, .stacked tr, .stacked td { display: block; width: 100%; }
  .stacked tr {
    border: 1px solid var(--line); border-radius: 6px; margin-bottom: .8rem; padding: .3rem;
  }
  .stacked td {
    display: grid; grid-template-columns: 7.5rem 1fr; gap: .5rem; border: 0; padding: .15rem .3rem;
  }
  .stacked td::before { content: attr(data-label); font-weight: 600; }
  table.stacked td.number { white-space: normal; }
  .stacked td.long { min-width: 0; }
}
"""

# Without this script the rows keep the order that they have in the page. Cells without a sort key
# come last in both directions. The select box exists for narrow screens, where stacked tables hide
# their head.
SORT_SCRIPT = """
for (const table of document.querySelectorAll('table.sortable')) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const order = document.createElement('select');

  function sort(column, direction) {
    const isNumber = heads[column].dataset.number === '1';
    const compare = (a, b) => {
      const [x, y] = [a.cells[column].dataset.key, b.cells[column].dataset.key];
      if (x === '' || y === '') return (x === '') - (y === '');
      return direction * (isNumber ? x - y : x.localeCompare(y, 'en', {numeric: true}));
    };
    body.append(...[...body.rows].sort(compare));
    heads.forEach(head => head.removeAttribute('aria-sort'));
    heads[column].setAttribute('aria-sort', direction > 0 ? 'ascending' : 'descending');
    order.value = `${column} ${direction}`;
  }

  heads.forEach((head, column) => {
    const label = head.textContent;
    const first = Number(head.dataset.first);
    const button = document.createElement('button');
    button.type = 'button';
    button.textContent = label;
    head.replaceChildren(button);
    button.addEventListener('click', () => {
      const current = {ascending: 1, descending: -1}[head.getAttribute('aria-sort')];
      sort(column, current ? -current : first);
    });
    for (const direction of [first, -first]) {
      const name = direction > 0 ? 'least first' : 'greatest first';
      order.append(new Option(`${label}, ${name}`, `${column} ${direction}`));
    }
  });

  order.selectedIndex = -1;
  order.addEventListener('change', () => sort(...order.value.split(' ').map(Number)));
  const label = document.createElement('label');
  label.className = 'narrow';
  label.append('order', order);
  table.parentElement.before(label);
}
"""


def page(
    title: str, content: str, script: str = '', wide: bool = False, reload: int | None = None
) -> str:
    """Return a whole page.

    Args:
        title: title in the browser's tab.
        content: HTML of the body.
        script: JavaScript that runs after the body was read; '' forbids all scripts.
        wide: whether to use the whole width of the window, for a page with one wide table.
        reload: seconds after which the browser reads the file again; None for never.
    """
    refresh = f'<meta http-equiv="refresh" content="{reload}">\n' if reload else ''
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    script_element = ''
    if script:
        policy += "; script-src 'unsafe-inline'"
        script_element = f'<script>\n(() => {{\n{script}\n}})();\n</script>\n'
    body_tag = '<body class="wide">' if wide else '<body>'
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
{refresh}<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
{body_tag}
{content}
{script_element}</body>
</html>
"""


@dataclass(frozen=True)
class Column:
    """The head of a table column.

    Attributes:
        title: text of the head.
        number: whether the sort keys of the column's cells are numbers.
        greatest_first: whether the first click sorts in descending order.
    """

    title: str
    number: bool = False
    greatest_first: bool = False


@dataclass(frozen=True)
class Cell:
    """A table cell.

    Attributes:
        content: HTML.
        sort_key: text that a sortable table compares; '' puts the cell last.
        css_class: 'number' (never wraps), 'long' (wraps), 'wrap' (wraps at any width) or ''.
    """

    content: str
    sort_key: str = ''
    css_class: str = ''


@dataclass(frozen=True)
class Row:
    """A table row.

    Attributes:
        cells: one cell for each column.
        data: the row's ``data-`` attributes for scripts, name -> value.
    """

    cells: list[Cell]
    data: dict[str, str] = field(default_factory=dict)


def text_cell(text: str) -> Cell:
    """Return a cell of plain text. A line break in the text is a line break in the cell."""
    lines = text.split('\n')
    css_class = 'long' if max(map(len, lines)) > LONG_LINE else ''
    return Cell('<br>'.join(map(escape, lines)), sort_key=text, css_class=css_class)


@dataclass(frozen=True)
class Table:
    """A table in a box that scrolls sideways.

    Attributes:
        columns: heads of the columns.
        rows: rows with as many cells as there are columns.
        label: name of the box for screen readers.
        row_headers: whether the first cell of a row is its header, which stays visible when the box
            scrolls.
        sortable: whether a click on a head sorts the rows; the page must then contain
            ``SORT_SCRIPT``.
        stacked: whether on a narrow screen each row becomes a card with the column titles beside
            the values. Excludes ``row_headers``.
    """

    columns: list[Column]
    rows: list[Row]
    label: str
    row_headers: bool = False
    sortable: bool = False
    stacked: bool = False

    def as_html(self) -> str:
        """Return the box with the table."""
        heads = ''.join(map(self._head, self.columns))
        body = '\n'.join(map(self._row, self.rows))
        return (
            f'<div class="scroll" role="region" aria-label="{escape(self.label)}" tabindex="0">\n'
            f'<table{self._class_attribute()}{self._role("table")}>\n'
            f'<thead{self._role("rowgroup")}><tr{self._role("row")}>{heads}</tr></thead>\n'
            f'<tbody{self._role("rowgroup")}>\n{body}\n</tbody>\n'
            '</table>\n</div>\n'
        )

    def _class_attribute(self) -> str:
        names = []
        if self.sortable:
            names.append('sortable')
        if self.stacked:
            names.append('stacked')
        return f' class="{" ".join(names)}"' if names else ''

    def _role(self, name: str) -> str:
        # CSS displays a stacked table as blocks, so its elements lose their implicit ARIA roles.
        return f' role="{name}"' if self.stacked else ''

    def _head(self, column: Column) -> str:
        attributes = self._role('columnheader')
        if self.sortable:
            first_direction = -1 if column.greatest_first else 1
            attributes += f' data-number="{int(column.number)}" data-first="{first_direction}"'
        return f'<th scope="col"{attributes}>{escape(column.title)}</th>'

    def _row(self, row: Row) -> str:
        data = ''.join(f' data-{name}="{escape(value)}"' for name, value in row.data.items())
        cells = ''.join(
            self._cell(cell, column, is_header=self.row_headers and index == 0)
            for index, (cell, column) in enumerate(zip(row.cells, self.columns, strict=True))
        )
        return f'<tr{self._role("row")}{data}>{cells}</tr>'

    def _cell(self, cell: Cell, column: Column, is_header: bool) -> str:
        attributes = self._role('cell')
        if cell.css_class:
            attributes += f' class="{cell.css_class}"'
        if self.stacked:
            attributes += f' data-label="{escape(column.title)}"'
        if self.sortable:
            attributes += f' data-key="{escape(cell.sort_key)}"'
        if is_header:
            return f'<th scope="row"{attributes}>{cell.content}</th>'
        # In a stacked table a cell is a grid; the inner <div> keeps the content in one grid item.
        content = f'<div>{cell.content}</div>' if self.stacked else cell.content
        return f'<td{attributes}>{content}</td>'


def data_uri(content: bytes, media_type: str) -> str:
    """Return the bytes of a picture as a data URI for an ``img`` element."""
    return f'data:{media_type};base64,{base64.b64encode(content).decode()}'


def figure(path: Path, alt: str, caption: str) -> str:
    """Return a ``figure`` element that contains the data of a picture file.

    Args:
        path: a .png, .svg or .jpg file.
        alt: text for readers who cannot see the picture.
        caption: text below the picture.
    """
    return figure_of(path.read_bytes(), path.suffix, alt, caption)


def figure_of(content: bytes, suffix: str, alt: str, caption: str) -> str:
    """Return a ``figure`` element that contains a picture.

    Args:
        content: the bytes of a picture file.
        suffix: a key of ``MEDIA_TYPES``.
        alt: text for readers who cannot see the picture.
        caption: text below the picture.
    """
    uri = data_uri(content, MEDIA_TYPES[suffix])
    return (
        f'<figure><img src="{uri}" alt="{escape(alt)}">'
        f'<figcaption>{escape(caption)}</figcaption></figure>\n'
    )


def thumbnail(content: bytes, suffix: str, alt: str, border: str = '') -> str:
    """Return a small ``img`` element of a fixed size.

    Args:
        content: the bytes of a picture file.
        suffix: a key of ``MEDIA_TYPES``.
        alt: text for readers who cannot see the picture.
        border: 'same' for a solid border, 'other' for a dashed one of another colour, '' for none.
    """
    uri = data_uri(content, MEDIA_TYPES[suffix])
    names = f'thumbnail {border}'.strip()
    return f'<img class="{names}" src="{uri}" alt="{escape(alt)}">'


def figure_grid(figures: list[str]) -> str:
    """Return figures in a grid that fits the width of the window; '' for no figures."""
    if not figures:
        return ''
    return f'<div class="figures">\n{"".join(figures)}</div>\n'


def paragraphs(text: str) -> str:
    """Return a ``p`` element for each paragraph of a text; empty lines separate paragraphs."""
    parts = [part for part in text.split('\n\n') if part.strip()]
    return ''.join(f'<p>{escape(part)}</p>\n' for part in parts)


def note(text: str) -> str:
    """Return a paragraph in small print."""
    return f'<p class="note">{escape(text)}</p>\n'


def bullets(texts: list[str]) -> str:
    """Return a bullet list."""
    items = ''.join(f'<li>{escape(text)}</li>\n' for text in texts)
    return f'<ul>\n{items}</ul>\n'


def preformatted(text: str) -> str:
    """Return text in a box that scrolls and keeps the line breaks of the text."""
    return f'<pre tabindex="0">{escape(text)}</pre>\n'


def details(summary: str, content: str) -> str:
    """Return content that is hidden until a click on its summary.

    Args:
        summary: text.
        content: HTML.
    """
    return f'<details><summary>{escape(summary)}</summary>\n{content}</details>\n'


@dataclass(frozen=True)
class Section:
    """A section of a page.

    Attributes:
        title: text of the heading.
        anchor: id of the heading, for links.
        content: HTML.
    """

    title: str
    anchor: str
    content: str

    def as_html(self) -> str:
        """Return the content under its heading."""
        return f'<h2 id="{self.anchor}">{escape(self.title)}</h2>\n{self.content}'


def navigation(sections: list[Section]) -> str:
    """Return links to sections."""
    links = ''.join(f'<a href="#{part.anchor}">{escape(part.title)}</a>' for part in sections)
    return f'<nav>{links}</nav>\n'


def badge(letter: str, number: int) -> str:
    """Return a letter in a coloured frame; the colour depends on ``number`` modulo BADGE_HUES."""
    hue = number % BADGE_HUES * 360 // BADGE_HUES
    return f'<span class="badge" style="border-color: hsl({hue} 60% 50%)">{escape(letter)}</span>'
