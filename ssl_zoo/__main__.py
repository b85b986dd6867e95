"""``python -m ssl_zoo`` is the command ``ssl-zoo``."""

import sys
from typing import NoReturn

from ssl_zoo.program import run_program


def run() -> NoReturn:
    """Run the command that the arguments of the process name, and end the process."""
    run_program('ssl_zoo.cli.main', sys.argv[1:])


if __name__ == '__main__':
    run()
