"""The same as the command ``ssl-zoo new-method``."""

import sys

from ssl_zoo.cli.main import main

if __name__ == '__main__':
    sys.exit(main(['new-method', *sys.argv[1:]]))
