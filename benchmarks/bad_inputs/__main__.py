"""Try bad inputs on every tool: a tool must answer with an error message and damage nothing.

    python benchmarks/bad_inputs [--only train knn] [--examples 300]

The random inputs need hypothesis: pip install -e '.[test]'.

An input is handled if the exit code is not 0, no traceback is shown, stderr has an error message,
existing files have not changed, no code in a file was executed, no temporary file is left, and, if
new files are left, the working command still works in the same folder. A legal input must succeed.
Tools run in this process; some inputs are also tried in a new process. Then random options, bytes
and lists are read: each must give a result or a ConfigError. The script prints the numbers of
inputs tried and handled, and exits with 1 if an input was not handled.
"""

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from campaign import Campaign
from commands import tools
from inputs import PROCESSES

MEMORY = 24 << 30  # bytes of address space: a huge number must not exhaust the machine


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = [*tools(), 'processes', 'random']
    parser.add_argument(
        '--only',
        nargs='+',
        choices=parts,
        default=parts,
        metavar='PART',
        help='tools, processes, random; default: all',
    )
    parser.add_argument(
        '--examples', type=int, default=300, help='random inputs of each kind; default: 300'
    )
    args = parser.parse_args(argv)
    _, hard_limit = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, hard_limit))
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder, 'home')
        home.mkdir()
        campaign = Campaign(home)
        campaign.run([tool for tool in tools() if tool in args.only])
        if 'processes' in args.only:
            for tool, line in PROCESSES:
                campaign.attempt(tool, line, campaign.start)
        if 'random' in args.only:
            from random_inputs import try_random_inputs  # needs hypothesis

            try_random_inputs(args.examples, home, campaign.names, campaign.result)
    print(campaign.result.summary())
    print(f'{time.perf_counter() - started:.0f} s')
    return 1 if campaign.result.failures else 0


if __name__ == '__main__':
    sys.exit(main())
