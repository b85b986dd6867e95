"""The same as the command ``ssl-zoo train-all``."""

import sys

from ssl_zoo.cli.train_all import main

if __name__ == '__main__':
    sys.exit(main())
