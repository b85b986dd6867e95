"""Progress bars."""

import sys

from tqdm import tqdm

from ssl_zoo.distributed import rank


def progress_bar(
    total: int, what: str, unit: str = 'images', done: int = 0, shown: bool = True
) -> tqdm:
    """A bar with the time left on the terminal; into a file, a line now and then. The first process alone shows it."""
    return tqdm(
        total=total,
        desc=what,
        unit=f' {unit}',
        initial=done,
        disable=rank() > 0 or not shown,
        dynamic_ncols=True,
        mininterval=0.2 if sys.stderr.isatty() else 30,
    )
