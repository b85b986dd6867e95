"""The same as the command ``ssl-zoo import``."""

import sys

from ssl_zoo.cli.main import main

if __name__ == '__main__':
    sys.exit(main(['import', *sys.argv[1:]]))
