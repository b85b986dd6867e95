"""The same as the command ``ssl-zoo make-shards``."""

import sys

from ssl_zoo.cli.make_shards import main

if __name__ == '__main__':
    sys.exit(main())
