"""The same as the command ``ssl-zoo semi-supervised``."""

import sys

from ssl_zoo.cli.main import main

if __name__ == '__main__':
    sys.exit(main(['semi-supervised', *sys.argv[1:]]))
