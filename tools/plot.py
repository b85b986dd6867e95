"""The same as the command ``ssl-zoo plot``."""

import sys

from ssl_zoo.cli.main import main

if __name__ == '__main__':
    sys.exit(main(['plot', *sys.argv[1:]]))
