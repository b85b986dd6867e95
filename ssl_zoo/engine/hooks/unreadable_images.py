"""Count the training images that cannot be read, and stop the run when there are too many."""

from typing import TYPE_CHECKING

from mmengine.hooks import Hook

from ssl_zoo.data.sources import Source
from ssl_zoo.distributed import rank
from ssl_zoo.distributed.objects import all_gather_object
from ssl_zoo.errors import CollectiveConfigError, ConfigError
from ssl_zoo.printable import one_line

if TYPE_CHECKING:
    from ssl_zoo.engine.trainer import Trainer


class UnreadableImagesHook(Hook):
    """Collects the unreadable images of all ranks, and lists them at the end of the run.

    Each rank counts its new images at every step; the counts are summed over ranks without
    waiting. The ranks exchange names only when the sum has grown.

    Args:
        source: the training images.
        limit: fraction of the training images that may be unreadable.

    Attributes:
        reasons: position of an unreadable image -> reason, of all ranks.
        new_reasons: position -> reason, of this rank, not yet exchanged with the other ranks.
    """

    SHOWN = 20

    def __init__(self, source: Source, limit: float):
        self.source = source
        self.limit = limit
        self.reasons: dict[int, str] = {}
        self.new_reasons: dict[int, str] = {}
        self._counted = 0
        self._exchanged = 0  # images over all ranks at the last exchange

    def before_train(self, runner: 'Trainer') -> None:
        def exchange_if_more(sums: list[int]) -> None:
            if sums[0] > self._exchanged:
                self._exchanged = sums[0]
                self.exchange(runner)

        runner.summed_counts.register(lambda: [self.count_new()], exchange_if_more)

    def before_train_iter(
        self, runner: 'Trainer', batch_idx: int, data_batch: dict | None = None
    ) -> None:
        for i, reason in data_batch['unreadable']:
            if i not in self.reasons:
                self.new_reasons[i] = reason
        if data_batch['views'] is None:
            self.reasons.update(self.new_reasons)
            raise ConfigError(
                f'{len(data_batch["unreadable"])} images in a row cannot be read: '
                f'{self._list_images()}; check the data'
            )

    def count_new(self) -> int:
        """Return the number of images added to ``new_reasons`` since the last call."""
        count = len(self.new_reasons) - self._counted
        self._counted = len(self.new_reasons)
        return count

    def exchange(self, runner: 'Trainer') -> None:
        """Gather the new images of all ranks. All ranks call it at the same step.

        Raises:
            CollectiveConfigError: too many images are unreadable.
        """
        for new_reasons in all_gather_object(self.new_reasons):
            for i, reason in new_reasons.items():
                if i not in self.reasons:
                    self.reasons[i] = reason
                    if rank() == 0:
                        name = one_line(self.source.name(i))
                        runner.logger.warning(f'skipped {name}: {one_line(reason)}')
        self.new_reasons = {}
        self._counted = 0
        if len(self.reasons) > self.limit * len(self.source):
            raise CollectiveConfigError(
                f'{len(self.reasons)} of {len(self.source)} training images cannot be read, more '
                f'than the share data.max_unreadable={self.limit:g} allows: '
                f'{self._list_images()}; raise the share, or mend them and start a new run'
            )

    def after_train(self, runner: 'Trainer') -> None:
        self.exchange(runner)  # counts of the last step are not exchanged by a later step
        if self.reasons and rank() == 0:
            runner.logger.warning(
                f'{len(self.reasons)} of {len(self.source)} training images could not be read '
                f'and were skipped: {self._list_images()}'
            )

    def _list_images(self) -> str:
        names = [
            one_line(f'{self.source.name(i)} ({reason})')
            for i, reason in sorted(self.reasons.items())
        ]
        text = '; '.join(names[: self.SHOWN])
        if len(names) > self.SHOWN:
            text += f' and {len(names) - self.SHOWN} more'
        return text
