"""The same as the command ``ssl-zoo make-shards``."""

import sys

from ssl_zoo.cli.main import main

if __name__ == '__main__':
    sys.exit(main(['make-shards', *sys.argv[1:]]))
