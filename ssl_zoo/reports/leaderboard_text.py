"""The leaderboard as text for a terminal, and as CSV."""

import shutil
from collections import defaultdict
from dataclasses import fields

from ssl_zoo.printable import one_line
from ssl_zoo.reports.leaderboard import Entry, Leaderboard
from ssl_zoo.storage.csv_text import csv_text

MIN_WIDTH = 80  # characters of a line
SHOWN_DAMAGED = 10
SPLIT_NOTE = 'settings have rows with other images, which are neither averaged nor ranked together.'


def value_text(entry: Entry) -> str:
    """Return the value and, if it is known, its standard deviation: '91.00 (1.41, 2 seeds)'."""
    deviation = '' if entry.std is None else f' ({entry.std:.2f}, {entry.std_of})'
    return f'{entry.value:.2f}{deviation}'


def shorten(text: str, most: int = 70) -> str:
    """Return the text, cut to at most ``most`` characters."""
    return text if len(text) <= most else text[: most - 3] + '...'


def as_text(board: Leaderboard, width: int | None = None) -> str:
    """Return the text for a terminal, with one list for each set of comparable entries.

    Args:
        board: the leaderboard.
        width: characters of a line; None for the width of the terminal.
    """
    width = max(width or shutil.get_terminal_size((140, 24)).columns, MIN_WIDTH)
    lists = defaultdict(list)
    for entry in board.entries:
        lists[entry.ranking_key(), entry.test if not entry.mark else ''].append(entry)
    lines = []
    for entries in lists.values():
        lines += [one_line(_heading(entries[0]))[:width], *_list(entries, width), '']
    return '\n'.join([*lines, *_notes(board)])


def _heading(entry: Entry) -> str:
    test = f'{entry.test}, images not known: not ranked'
    if entry.mark:
        test = f'test set {entry.mark}, {entry.test} {entry.manifest}'
    images = '' if entry.images is None else f', {entry.images:,} images'
    images += f', {entry.bank_text()}'
    labels = entry.labels()
    trained_on = f', trained on {labels}' if labels else ''
    return f'{entry.metric} on {test}{images}{trained_on}'


def _list(entries: list[Entry], width: int) -> list[str]:
    cells = [_cells(entry) for entry in entries]
    widths = [max(len(row[column]) for row in cells) for column in range(4)]
    lines = []
    for rank, value, method, network, details in cells:
        parts = [
            f'{rank:>{widths[0] + 2}}',
            f'{value:<{widths[1]}}',
            f'{method:<{widths[2]}}',
            f'{network:<{widths[3]}}',
            details,
        ]
        lines.append(shorten('  '.join(parts), width))
    return lines


def _cells(entry: Entry) -> list[str]:
    network = (entry.weights, entry.network, entry.layer)
    details = (shorten(entry.config), entry.protocol)
    return [
        f'{entry.rank or "-"}',
        value_text(entry),
        one_line(entry.method),
        one_line(' '.join(filter(None, network))),
        one_line('; '.join(filter(None, details))),
    ]


def _notes(board: Leaderboard) -> list[str]:
    notes = []
    if len({entry.manifest for entry in board.entries}) > 1:
        notes.append(
            'Figures on different test sets do not compare: each set has its own lists and ranks.'
        )
    if len({entry.ranking_key()[3:] for entry in board.entries}) > 1:
        notes.append('Ranks hold only within equal training labels, of equal number and hash.')
    sentences = dict.fromkeys(
        f'  {entry.metric}, {entry.method}: {text}'
        for entry in board.entries
        for text in entry.warnings.splitlines()
    )
    if sentences:
        notes += ['Warnings of figures:', *map(one_line, sentences)]
    if board.split:
        notes.append(f'{board.split} {SPLIT_NOTE}')
    again = sum(entry.again for entry in board.entries)
    if again:
        notes.append(
            f'{again} rows left out: the same seed was measured again later, and the newest row '
            'counts.'
        )
    if board.damaged:
        notes.append(f'{len(board.damaged)} damaged lines left out:')
        notes += [f'  {one_line(sentence)}' for sentence in board.damaged[:SHOWN_DAMAGED]]
    if len(board.damaged) > SHOWN_DAMAGED:
        notes.append(f'  and {len(board.damaged) - SHOWN_DAMAGED} more')
    notes.append(f'{len(board.entries)} figures of {board.rows} rows in {board.files} files')
    return notes


def as_csv(entries: list[Entry]) -> str:
    """Return the table as CSV with a header line, see ``csv_text``."""
    names = [field.name for field in fields(Entry)]
    place = names.index('interval')
    head = [*names[:place], 'interval_low', 'interval_high', *names[place + 1 :]]
    rows = []
    for entry in entries:
        values = [getattr(entry, name) for name in names]
        values[place : place + 1] = entry.interval or (None, None)
        rows.append(values)
    return csv_text([head, *rows])
