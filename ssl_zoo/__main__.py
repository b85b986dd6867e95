"""``python -m ssl_zoo`` is the command ``ssl-zoo``."""

import sys

from ssl_zoo.cli.main import main

if __name__ == '__main__':
    sys.exit(main())
