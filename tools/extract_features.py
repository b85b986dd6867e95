"""The same as the command ``ssl-zoo extract-features``."""

import sys

from ssl_zoo.cli.extract_features import main

if __name__ == '__main__':
    sys.exit(main())
