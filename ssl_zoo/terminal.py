"""Standard output and error of a command: names from files and configs cannot act on a terminal."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any, TextIO

from ssl_zoo.printable import one_line, printable


class PrintableStream:
    """A text stream that shows control characters and undecodable bytes escaped, see printable.

    When the reader of a pipe has ended, as ``head`` does, the rest of the text goes nowhere and the
    command goes on.

    Args:
        stream: receives the text; everything but ``write`` and ``flush`` is the stream's own.
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
        try:
            self.stream.write(start + printable(text[len(start) :]))
        except BrokenPipeError:
            self._discard()
        return len(text)

    def flush(self) -> None:
        try:
            self.stream.flush()
        except BrokenPipeError:
            self._discard()

    def _discard(self) -> None:
        """Let the stream's descriptor, with what the stream still holds, lead to os.devnull."""
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, self.stream.fileno())
        os.close(devnull)

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
        try:
            yield
        finally:
            out.flush()  # here a broken pipe is silent, at the end of the process it is not


def print_error(sentence: str) -> None:
    """Print a sentence on stderr, on one line whatever file names and values it quotes."""
    print(one_line(sentence), file=sys.stderr, flush=True)
