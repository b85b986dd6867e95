"""Count the training images that cannot be read."""

from mmengine.hooks import Hook

from ssl_zoo.data.sources import Source
from ssl_zoo.distributed import rank
from ssl_zoo.distributed.objects import all_gather_object
from ssl_zoo.errors import CollectiveConfigError, ConfigError


class UnreadableImagesHook(Hook):
    """Counts the training images that could not be read, stops the run when they are too many, lists them at the end.

    Args:
        source: the training images; limit: the share of them that may be unreadable.
    """

    SHOWN = 20

    def __init__(self, source: Source, limit: float):
        self.source, self.limit = source, limit
        self.reasons: dict[int, str] = {}  # of all processes
        self.fresh: dict[int, str] = {}  # of this one, that the others have not heard of
        self.counted = 0

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.fresh.update(
            (i, reason) for i, reason in data_batch['unreadable'] if i not in self.reasons
        )
        if data_batch['views'] is None:
            self.reasons.update(self.fresh)
            raise ConfigError(
                f'{len(data_batch["unreadable"])} images in a row cannot be read: {self._listed()}; check the data'
            )

    def news(self) -> int:
        """How many images of ``fresh`` were not yet told of."""
        new, self.counted = len(self.fresh) - self.counted, len(self.fresh)
        return new

    def exchange(self, runner) -> None:
        """Called on all processes when one has news."""
        for fresh in all_gather_object(self.fresh):
            for i, reason in fresh.items():
                if i not in self.reasons:
                    self.reasons[i] = reason
                    if rank() == 0:
                        runner.logger.warning(f'skipped {self.source.name(i)}: {reason}')
        self.fresh, self.counted = {}, 0
        if len(self.reasons) > self.limit * len(self.source):
            raise CollectiveConfigError(
                f'{len(self.reasons)} of {len(self.source)} training images cannot be read, more than the share '
                f'data.max_unreadable={self.limit:g} allows: {self._listed()}; mend them, or raise the share'
            )

    def after_train(self, runner):
        self.exchange(runner)  # of the last step no other process has heard
        if self.reasons and rank() == 0:
            runner.logger.warning(
                f'{len(self.reasons)} of {len(self.source)} training images could not be read and were '
                f'skipped: {self._listed()}'
            )

    def _listed(self) -> str:
        names = [f'{self.source.name(i)} ({reason})' for i, reason in sorted(self.reasons.items())]
        more = f' and {len(names) - self.SHOWN} more' if len(names) > self.SHOWN else ''
        return '; '.join(names[: self.SHOWN]) + more
