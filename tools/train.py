"""The same as the command ``ssl-zoo train``."""

import sys

from ssl_zoo.cli.train import main

if __name__ == '__main__':
    sys.exit(main())
