"""The same as the command ``ssl-zoo study``."""

import sys

from ssl_zoo.program import run_program

if __name__ == '__main__':
    run_program('ssl_zoo.cli.main', ['study', *sys.argv[1:]])
