"""The same as the command ``ssl-zoo export``."""

import sys

from ssl_zoo.cli.main import main

if __name__ == '__main__':
    sys.exit(main(['export', *sys.argv[1:]]))
