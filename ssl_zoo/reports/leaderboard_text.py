"""The leaderboard as text: for a terminal, and as CSV."""

import csv
import io
import shutil
from collections import defaultdict
from dataclasses import fields

from ssl_zoo.reports.leaderboard import Board, Figure, compared, labels_of


def figure_text(f: Figure) -> str:
    """The value with what is known of its spread."""
    return f'{f.value:.2f}' + (f' ({f.std:.2f}, {f.std_of})' if f.std is not None else '')


def shortened(config: str, most: int = 70) -> str:
    return config if len(config) <= most else config[: most - 3] + '...'


def line_of(text: str) -> str:
    """On one line, free of what a terminal would obey."""
    return ''.join(c if c.isprintable() else ' ' for c in text).encode(errors='replace').decode()


def text(found: Board, width: int | None = None) -> str:
    """The table for a terminal: a list for what compares, for figures of different images or other labels have no common order."""
    width = max(width or shutil.get_terminal_size((140, 24)).columns, 80)
    lists = defaultdict(list)
    for f in found.figures:
        lists[compared(f), f.test if not f.mark else ''].append(f)
    lines = []
    for some in lists.values():
        metric, mark, labels = some[0].metric, some[0].mark, labels_of(some[0])
        what = (
            f'test set {mark}, {some[0].test} {some[0].manifest}'
            if mark
            else f'{some[0].test}, images not known: not ranked'
        )
        images = f', {some[0].images:,} images' if some[0].images is not None else ''
        lines.append(
            line_of(f'{metric} on {what}{images}{f", trained on {labels}" if labels else ""}')[
                :width
            ]
        )
        cells = [
            [
                f'{f.rank or "-"}',
                figure_text(f),
                line_of(f.method),
                line_of(' '.join(filter(None, (f.weights, f.network, f.layer)))),
                line_of('; '.join(filter(None, (shortened(f.config), f.protocol)))),
            ]
            for f in some
        ]
        widths = [max(len(row[c]) for row in cells) for c in range(4)]
        for rank, value, *rest in cells:
            line = '  '.join(
                [
                    f'{rank:>{widths[0] + 2}}',
                    f'{value:<{widths[1]}}',
                    *(f'{cell:<{w}}' for cell, w in zip(rest[:2], widths[2:], strict=True)),
                    rest[2],
                ]
            )
            lines.append(line if len(line) <= width else line[: width - 3] + '...')
        lines.append('')
    if len({f.manifest for f in found.figures}) > 1:
        lines.append(
            'Figures on different test sets say nothing of each other: each set has lists and ranks of its own.'
        )
    if again := sum(f.again for f in found.figures):
        lines.append(
            f'{again} rows left out: the same seed was measured again later, and the newest counts.'
        )
    if found.damaged:
        lines.append(f'{len(found.damaged)} damaged lines left out:')
        lines += [f'  {line_of(sentence)}' for sentence in found.damaged[:10]]
        lines += [f'  and {len(found.damaged) - 10} more'] if len(found.damaged) > 10 else []
    lines.append(f'{len(found.figures)} figures of {found.rows} rows in {found.files} files')
    return '\n'.join(lines)


def as_csv(figures: list[Figure]) -> str:
    """With a line of names. Text that a spreadsheet would take for a formula gets an apostrophe in front."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator='\n')
    names = [field.name for field in fields(Figure)]
    writer.writerow(
        [
            name
            for n in names
            for name in (('interval_low', 'interval_high') if n == 'interval' else (n,))
        ]
    )
    for f in figures:
        cells = []
        for name in names:
            value = getattr(f, name)
            if name == 'interval':
                cells += value or ('', '')
            else:
                cells.append(
                    "'" + value
                    if isinstance(value, str) and value[:1] in tuple('=+-@\t\r')
                    else ''
                    if value is None
                    else value
                )
        writer.writerow(cells)
    return file.getvalue()
