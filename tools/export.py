"""The same as the command ``ssl-zoo export``."""

import sys

from ssl_zoo.cli.export import main

if __name__ == '__main__':
    sys.exit(main())
