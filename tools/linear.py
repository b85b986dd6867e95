"""The same as the command ``ssl-zoo linear``."""

import sys

from ssl_zoo.cli.linear import main

if __name__ == '__main__':
    sys.exit(main())
