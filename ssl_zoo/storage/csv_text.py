"""Tables as CSV, without formulas that a spreadsheet would run."""

import csv
import io
import re
from collections.abc import Iterable, Sequence

# A spreadsheet takes text that starts so for a formula. The last four are their wide forms.
FORMULA_STARTS = tuple('=+-@\t\r\n＝＋－＠')
NUMBER = re.compile(r'[+-]?[\d.,]+(e[+-]?\d+)?%?', re.ASCII | re.IGNORECASE)


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    """Return rows as CSV, the first of which is the header.

    Text that a spreadsheet would take for a formula gets an apostrophe in front of it; numbers,
    also those written as text such as '+1.20', stay. None is an empty cell.
    """
    file = io.StringIO()
    writer = csv.writer(file, lineterminator='\n')
    for row in rows:
        writer.writerow([_cell(value) for value in row])
    return file.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, str) and value.startswith(FORMULA_STARTS) and not NUMBER.fullmatch(value):
        return f"'{value}"
    return value
