"""``python -m ssl_zoo.studies FOLDER`` does the job of a folder, see ``ssl_zoo.studies.job``."""

import sys

from ssl_zoo.program import run_program

if __name__ == '__main__':
    run_program('ssl_zoo.studies.job', sys.argv[1:])
