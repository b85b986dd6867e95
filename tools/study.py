"""The same as the command ``ssl-zoo study``."""

import sys

from ssl_zoo.cli.study import main

if __name__ == '__main__':
    sys.exit(main())
