"""The same as the command ``ssl-zoo leaderboard``."""

import sys

from ssl_zoo.cli.main import main

if __name__ == '__main__':
    sys.exit(main(['leaderboard', *sys.argv[1:]]))
