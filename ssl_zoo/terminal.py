"""Standard output and error of a command: names from files and configs cannot act on a terminal."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any, TextIO

from ssl_zoo.printable import one_line, printable


class PrintableStream:
    """A text stream that shows control characters and undecodable bytes escaped, see printable.

    Args:
        stream: receives the text; everything but ``write`` is the stream's own.
    """

    def __init__(self, stream: TextIO):
        self.stream = stream
        reconfigure = getattr(stream, 'reconfigure', None)
        if reconfigure is not None:
            # A terminal that is not UTF-8 shows an escape for other characters.
            reconfigure(errors='backslashreplace')

    def write(self, text: str) -> int:
        """Write the printable text. A carriage return at its start, of progress bars, stays."""
        start = '\r' if text.startswith('\r') else ''
        self.stream.write(start + printable(text[len(start) :]))
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def printable_output() -> Iterator[None]:
    """Make standard output and error printable within the block, see PrintableStream."""
    if isinstance(sys.stderr, PrintableStream):
        yield
        return
    out: Any = PrintableStream(sys.stdout)
    err: Any = PrintableStream(sys.stderr)
    with redirect_stdout(out), redirect_stderr(err):
        yield


def print_error(sentence: str) -> None:
    """Print a sentence on stderr, on one line whatever file names and values it quotes."""
    print(one_line(sentence), file=sys.stderr, flush=True)
