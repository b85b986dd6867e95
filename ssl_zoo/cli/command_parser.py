"""The parser of a command's arguments. Imports no slow package, so that --help is fast."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from ssl_zoo.printable import one_line
from ssl_zoo.validation import path_mistake

OUTPUTS = ('work_dir', 'out', 'out_dir', 'csv')  # arguments that name what a command writes


class CommandParser(argparse.ArgumentParser):
    """A parser that checks what all commands share: messages, and the paths of outputs.

    Control characters in messages are shown escaped. Paths of outputs must be UTF-8: TensorBoard
    and readers of the JSON files could not find others.
    """

    def parse_args(
        self, args: Sequence[str] | None = None, namespace: None = None
    ) -> argparse.Namespace:
        parsed = super().parse_args(args, namespace)
        for name in OUTPUTS:
            mistake = path_mistake(getattr(parsed, name, None) or '')
            if mistake:
                self.error(mistake)
        return parsed

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
