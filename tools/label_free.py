"""The same as the command ``ssl-zoo label-free``."""

import sys

from ssl_zoo.program import run_program

if __name__ == '__main__':
    run_program('ssl_zoo.cli.main', ['label-free', *sys.argv[1:]])
