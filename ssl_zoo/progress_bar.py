"""Progress bars of evaluations."""

import sys

from tqdm import tqdm

from ssl_zoo.distributed import rank


def progress_bar(
    total: int, description: str, unit: str = 'images', done: int = 0, shown: bool = True
) -> tqdm:
    """Make a progress bar with the time left. Rank 0 alone shows it.

    The bar is redrawn five times per second on a terminal, and every 30 seconds into a file.

    Args:
        total: units of the whole work.
        description: label of the bar.
        unit: name of a unit.
        done: units done before the bar starts.
        shown: False for a bar that prints nothing.
    """
    return tqdm(
        total=total,
        desc=description,
        unit=f' {unit}',
        initial=done,
        disable=rank() > 0 or not shown,
        dynamic_ncols=True,
        mininterval=0.2 if sys.stderr.isatty() else 30,
    )
