"""The hooks of a run."""

from mmengine.hooks import Hook

from ssl_zoo.config.settings import Settings
from ssl_zoo.data.sources import Source
from ssl_zoo.engine.custom_hooks import build_custom_hooks
from ssl_zoo.engine.hooks.checkpoint import CheckpointHook
from ssl_zoo.engine.hooks.non_finite import NonFiniteHook
from ssl_zoo.engine.hooks.online_evaluation import OnlineEvaluationHook
from ssl_zoo.engine.hooks.progress import ProgressHook
from ssl_zoo.engine.hooks.stop import StopHook
from ssl_zoo.engine.hooks.unreadable_images import UnreadableImagesHook
from ssl_zoo.engine.hooks.views_picture import ViewsPictureHook


def build_hooks(settings: Settings, sources: dict[str, Source | None]) -> list[Hook]:
    """Build the hooks of a run, those of the config last.

    They are called by priority, and in this order if it is equal. None knows another.

    Args:
        settings: settings of the run.
        sources: from ssl_zoo.data.splits.data_sources.
    """
    train = sources['train']
    return [
        UnreadableImagesHook(train, settings.data.max_unreadable),
        ViewsPictureHook(train),
        OnlineEvaluationHook(settings, sources),
        ProgressHook(settings),
        CheckpointHook(settings.checkpoint.every),
        NonFiniteHook(settings),
        StopHook(),
        *build_custom_hooks(settings.hooks),
    ]
