"""The same as the command ``ssl-zoo linear``."""

import sys

from ssl_zoo.cli.main import main

if __name__ == '__main__':
    sys.exit(main(['linear', *sys.argv[1:]]))
