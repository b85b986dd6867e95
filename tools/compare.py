"""The same as the command ``ssl-zoo compare``."""

import sys

from ssl_zoo.program import run_program

if __name__ == '__main__':
    run_program('ssl_zoo.cli.main', ['compare', *sys.argv[1:]])
