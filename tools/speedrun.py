"""The same as the command ``ssl-zoo speedrun``."""

import sys

from ssl_zoo.program import run_program

if __name__ == '__main__':
    run_program('ssl_zoo.cli.main', ['speedrun', *sys.argv[1:]])
