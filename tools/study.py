"""The same as the command ``ssl-zoo study``."""

import sys

from ssl_zoo.cli.main import main

if __name__ == '__main__':
    sys.exit(main(['study', *sys.argv[1:]]))
