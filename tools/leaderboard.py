"""The same as the command ``ssl-zoo leaderboard``."""

import sys

from ssl_zoo.program import run_program

if __name__ == '__main__':
    run_program('ssl_zoo.cli.main', ['leaderboard', *sys.argv[1:]])
