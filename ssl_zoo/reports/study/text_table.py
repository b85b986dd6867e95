"""A table of text cells that a report writes as HTML and as Markdown."""

import re
from dataclasses import dataclass

from ssl_zoo.printable import one_line
from ssl_zoo.reports import html

MARKDOWN_SIGNS = '\\`*_[]|'


@dataclass
class TextTable:
    """A table of text cells. A line break in a text is a line break in the cell.

    Attributes:
        title: heading above the table.
        note: text below the table; '' for none.
        head: titles of the columns.
        rows: texts of the cells, one per column in each row.
    """

    title: str
    note: str
    head: list[str]
    rows: list[list[str]]

    def as_html(self) -> str:
        """Return heading, table and note."""
        table = html.Table(
            columns=[html.Column(title) for title in self.head],
            rows=[html.Row([html.text_cell(text) for text in row]) for row in self.rows],
            label=self.title,
            row_headers=True,
        )
        note = html.note(self.note) if self.note else ''
        return f'<h3>{html.escape(self.title)}</h3>\n{table.as_html()}{note}'

    def as_markdown(self) -> str:
        """Return heading, table and note."""
        lines = [
            f'### {escape_markdown(one_line(self.title))}\n',
            _markdown_row(self.head),
            '|' + '---|' * len(self.head),
            *map(_markdown_row, self.rows),
        ]
        if self.note:
            lines += ['', escape_markdown(self.note)]
        return '\n'.join(lines) + '\n'


def _markdown_row(texts: list[str]) -> str:
    cells = [escape_markdown(text).replace('\n', '<br>') for text in texts]
    return f'| {" | ".join(cells)} |'


def escape_markdown(text: str) -> str:
    """Escape a text, so that Markdown shows it unchanged; an empty line would end an element."""
    text = re.sub(r'\n\s*\n', '\n', text)
    for sign, entity in (('&', '&amp;'), ('<', '&lt;'), ('>', '&gt;')):
        text = text.replace(sign, entity)
    for sign in MARKDOWN_SIGNS:
        text = text.replace(sign, '\\' + sign)
    return text
