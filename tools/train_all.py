"""The same as the command ``ssl-zoo train-all``."""

import sys

from ssl_zoo.cli.main import main

if __name__ == '__main__':
    sys.exit(main(['train-all', *sys.argv[1:]]))
