"""The same as the command ``ssl-zoo replay``."""

import sys

from ssl_zoo.cli.replay import main

if __name__ == '__main__':
    sys.exit(main())
