"""The same as the command ``ssl-zoo show-views``."""

import sys

from ssl_zoo.cli.show_views import main

if __name__ == '__main__':
    sys.exit(main())
