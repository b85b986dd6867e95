"""The same as the command ``ssl-zoo import``."""

import sys

from ssl_zoo.program import run_program

if __name__ == '__main__':
    run_program('ssl_zoo.cli.main', ['import', *sys.argv[1:]])
