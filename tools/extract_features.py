"""The same as the command ``ssl-zoo extract-features``."""

import sys

from ssl_zoo.cli.main import main

if __name__ == '__main__':
    sys.exit(main(['extract-features', *sys.argv[1:]]))
