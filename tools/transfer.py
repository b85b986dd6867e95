"""The same as the command ``ssl-zoo transfer``."""

import sys

from ssl_zoo.cli.main import main

if __name__ == '__main__':
    sys.exit(main(['transfer', *sys.argv[1:]]))
