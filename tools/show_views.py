"""The same as the command ``ssl-zoo show-views``."""

import sys

from ssl_zoo.cli.main import main

if __name__ == '__main__':
    sys.exit(main(['show-views', *sys.argv[1:]]))
