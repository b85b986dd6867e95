"""Integer counters that are summed over ranks without waiting."""

import torch
import torch.distributed as dist

from ssl_zoo.distributed.collectives import world_size


class AsyncCounter:
    """Counters that all ranks add to at every step, without waiting for each other.

    With several ranks the sums lag by one step: numbers added at a step are in the sums that the
    next step returns. All ranks get the same sums at the same step, so that all can make the same
    decision, for instance to stop. With one rank the sums are those of the step itself.

    Args:
        n: number of counters.
    """

    def __init__(self, n: int):
        self.sums = torch.zeros(n, dtype=torch.int64)
        self._pending: tuple[dist.Work, torch.Tensor] | None = None

    def add(self, *numbers: int) -> list[int]:
        """Add one number to each counter; return the sums over ranks (see the class)."""
        if world_size() == 1:
            self.sums += torch.tensor(numbers)
            return self.sums.tolist()
        self._wait()
        tensor = torch.tensor(numbers)
        self._pending = dist.all_reduce(tensor, async_op=True), tensor
        return self.sums.tolist()

    def finish(self) -> list[int]:
        """Return the sums over ranks of everything that was added."""
        self._wait()
        return self.sums.tolist()

    def _wait(self) -> None:
        if self._pending is not None:
            work, tensor = self._pending
            work.wait()
            self.sums += tensor
            self._pending = None
