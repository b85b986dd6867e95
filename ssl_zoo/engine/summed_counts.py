"""Numbers that hooks count at each step, summed over ranks without waiting."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ssl_zoo.distributed.counter import AsyncCounter


@dataclass(frozen=True)
class _Part:
    count: Callable[[], Sequence[int]]
    act: Callable[[list[int]], None]


class SummedCounts:
    """Collects the counts of hooks, sums them over ranks, and gives each hook its sums.

    One exchange per step serves all hooks. All ranks get the same sums at the same step, so all can
    make the same decision, for instance to stop (see AsyncCounter for the delay).
    """

    def __init__(self) -> None:
        self._parts: list[_Part] = []
        self._counter: AsyncCounter | None = None

    def register(
        self, count: Callable[[], Sequence[int]], act: Callable[[list[int]], None]
    ) -> None:
        """Add counts, before the first step, on all ranks in the same order.

        Args:
            count: called at each step; returns the numbers that are new on this rank, always as
                many.
            act: called at each step with their sums over ranks since the start.
        """
        self._parts.append(_Part(count, act))

    def exchange(self) -> None:
        """Sum the counts of a step. All ranks call it."""
        numbers = [list(part.count()) for part in self._parts]
        flat = [number for part in numbers for number in part]
        if not flat:
            return
        if self._counter is None:
            self._counter = AsyncCounter(len(flat))
        sums = iter(self._counter.add(*flat))
        for part, own in zip(self._parts, numbers, strict=True):
            part.act([next(sums) for _ in own])
