"""The same as the command ``ssl-zoo new-method``."""

import sys

from ssl_zoo.cli.new_method import main

if __name__ == '__main__':
    sys.exit(main())
