"""The parser of a command's arguments. Imports no slow package, so that --help is fast."""

import argparse
import sys
from pathlib import Path
from typing import NoReturn

from ssl_zoo.printable import one_line


class CommandParser(argparse.ArgumentParser):
    """A parser whose messages show control characters in an argument escaped."""

    def error(self, message: str) -> NoReturn:
        super().error(one_line(message))


def command_parser(command: str, description: str) -> argparse.ArgumentParser:
    """Build a parser without arguments.

    Args:
        command: name of the command, such as 'train'.
        description: text above the arguments in the help, printed unchanged: the docstring of the
            command's module.
    """
    return CommandParser(
        prog=program_name(command),
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def program_name(command: str) -> str:
    """Return the command as the user called it: 'tools/train.py' or 'ssl-zoo train'."""
    script = Path(sys.argv[0]).absolute()
    if script.parent.name == 'tools' and script.suffix == '.py':
        return f'tools/{script.name}'
    return f'ssl-zoo {command}'
