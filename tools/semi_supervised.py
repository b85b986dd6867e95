"""The same as the command ``ssl-zoo semi-supervised``."""

import sys

from ssl_zoo.cli.semi_supervised import main

if __name__ == '__main__':
    sys.exit(main())
