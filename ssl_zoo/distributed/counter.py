"""Integer counters summed over the ranks without waiting."""

import torch
import torch.distributed as dist

from ssl_zoo.distributed.collectives import world_size


class AsyncCounter:
    """Numbers added up over the processes at every step without waiting: what a step reported is read at the next one.

    So all processes learn the same at the same step, which is what they need to stop together. With one process it is known at once.
    """

    def __init__(self, n: int):
        self.sums, self.pending = torch.zeros(n, dtype=torch.int64), None

    def add(self, *numbers: int) -> list[int]:
        """Report numbers; the sums over processes of all that was reported until the step before."""
        if world_size() == 1:
            self.sums += torch.tensor(numbers)
            return self.sums.tolist()
        if self.pending is not None:
            work, tensor = self.pending
            work.wait()
            self.sums += tensor
        tensor = torch.tensor(numbers)
        self.pending = dist.all_reduce(tensor, async_op=True), tensor
        return self.sums.tolist()

    def finish(self) -> list[int]:
        """The sums of all that was reported."""
        if self.pending is not None:
            work, tensor = self.pending
            work.wait()
            self.sums, self.pending = self.sums + tensor, None
        return self.sums.tolist()
