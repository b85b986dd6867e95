"""The hooks of a run."""

from dataclasses import dataclass

from mmengine.hooks import Hook

from ssl_zoo.config.settings import Settings
from ssl_zoo.data.sources import Source
from ssl_zoo.engine.custom_hooks import build_custom_hooks
from ssl_zoo.engine.hooks.checkpoint import CheckpointHook
from ssl_zoo.engine.hooks.method import MethodHook
from ssl_zoo.engine.hooks.non_finite import NonFiniteHook
from ssl_zoo.engine.hooks.online_evaluation import OnlineEvaluationHook
from ssl_zoo.engine.hooks.progress import ProgressHook
from ssl_zoo.engine.hooks.schedule import ScheduleHook
from ssl_zoo.engine.hooks.stop import StopHook
from ssl_zoo.engine.hooks.unreadable_images import UnreadableImagesHook
from ssl_zoo.engine.hooks.views_picture import ViewsPictureHook


@dataclass
class RunHooks:
    """The hooks of a run. mmengine calls them by priority, and in this order if it is equal."""

    method: MethodHook
    schedule: ScheduleHook
    unreadable_images: UnreadableImagesHook
    views_picture: ViewsPictureHook
    online_evaluation: OnlineEvaluationHook
    progress: ProgressHook
    checkpoint: CheckpointHook
    non_finite: NonFiniteHook
    stop: StopHook
    custom: list[Hook]  # those that the config names

    @classmethod
    def build(cls, settings: Settings, sources: dict[str, Source | None]) -> 'RunHooks':
        """Build the hooks; ``sources`` come from ssl_zoo.data.splits.data_sources."""
        train = sources['train']
        progress = ProgressHook(settings)
        checkpoint = CheckpointHook(settings, train)
        return cls(
            method=MethodHook(),
            schedule=ScheduleHook(),
            unreadable_images=UnreadableImagesHook(train, settings.data.max_unreadable),
            views_picture=ViewsPictureHook(train),
            online_evaluation=OnlineEvaluationHook(settings, sources, progress),
            progress=progress,
            checkpoint=checkpoint,
            non_finite=NonFiniteHook(settings),
            stop=StopHook(checkpoint.save),
            custom=build_custom_hooks(settings.hooks),
        )

    def in_order(self) -> list[Hook]:
        """Return all hooks."""
        own = [hook for hook in vars(self).values() if isinstance(hook, Hook)]
        return own + self.custom
