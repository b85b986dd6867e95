"""The parser of a command's arguments. Imports no slow package, so that --help is fast."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from ssl_zoo.printable import one_line
from ssl_zoo.validation import path_mistake

OUTPUTS = (
    'work_dir',
    'out',
    'out_dir',
    'csv',
    'records',
)  # arguments that name what a command writes


class Store(argparse.Action):
    """Stores an argument; an option of a list that is given again adds to the list.

    ``--cfg-options epochs=5 --cfg-options seed=1`` changes both keys. The first values replace the
    default, which ``action='extend'`` would add to.
    """

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        earlier = getattr(namespace, self.dest, self.default)
        if option_string and self.nargs in ('+', '*') and earlier is not self.default:
            values = [*earlier, *values]
        setattr(namespace, self.dest, values)


class CommandParser(argparse.ArgumentParser):
    """A parser that checks what all commands share: messages, lists, and the paths of outputs.

    Control characters in messages are shown escaped. Options of lists may be given several times,
    see ``Store``. Paths of outputs must be UTF-8: TensorBoard and readers of the JSON files could
    not find others.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.register('action', None, Store)
        self.register('action', 'store', Store)

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
