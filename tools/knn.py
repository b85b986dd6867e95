"""The same as the command ``ssl-zoo knn``."""

import sys

from ssl_zoo.cli.main import main

if __name__ == '__main__':
    sys.exit(main(['knn', *sys.argv[1:]]))
