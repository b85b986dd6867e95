"""The same as the command ``ssl-zoo replay``."""

import sys

from ssl_zoo.cli.main import main

if __name__ == '__main__':
    sys.exit(main(['replay', *sys.argv[1:]]))
