"""The same as the command ``ssl-zoo make-shards``."""

import sys

from ssl_zoo.program import run_program

if __name__ == '__main__':
    run_program('ssl_zoo.cli.main', ['make-shards', *sys.argv[1:]])
