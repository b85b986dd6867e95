"""Text from files, names and configs as a terminal, a page or a figure can show it."""

import re

# Control characters except newline and tab, marks that reverse the direction of text, and halves of
# surrogate pairs, which stand for undecodable bytes of a path.
UNPRINTABLE = re.compile('[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]')


def printable(text: str) -> str:
    """Return the text with an escape such as ``\\x1b`` for every character that has an effect.

    A terminal would act on such a character, and no file can hold half of a surrogate pair. Texts
    that differ still differ afterwards. Newlines and tabs stay.
    """
    return UNPRINTABLE.sub(lambda match: _escape(match[0]), text)


def one_line(text: str) -> str:
    """Return the printable text on one line."""
    return printable(text).replace('\n', ' ').replace('\t', ' ')


def first_line(error: Exception) -> str:
    """Return the type of an error and the first line of its text."""
    lines = str(error).splitlines() or ['']
    return printable(f'{type(error).__name__}: {lines[0]}')


def _escape(character: str) -> str:
    code = ord(character)
    return f'\\x{code:02x}' if code < 0x100 else f'\\u{code:04x}'
