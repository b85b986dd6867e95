"""The same as the command ``ssl-zoo report``."""

import sys

from ssl_zoo.program import run_program

if __name__ == '__main__':
    run_program('ssl_zoo.cli.main', ['report', *sys.argv[1:]])
