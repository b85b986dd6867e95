"""Choose a setting of a sweep by its accuracy on the hold-out."""

from dataclasses import dataclass, replace

import numpy as np

from ssl_zoo.evaluation.protocols.context import METRIC_NAMES
from ssl_zoo.evaluation.recipes import Recipe, Setting


@dataclass(frozen=True)
class Choice:
    """The setting that is measured on the test images, and how it was chosen.

    Attributes:
        setting: setting of the network that is measured.
        index: index of the setting in the sweep, and of its head among the trained heads.
        holdout: number of held-out images that the choice was made on; None for a sweep of one
            setting.
        holdout_accuracy: accuracy of the setting on the hold-out, in percent; None for a sweep of
            one setting.
    """

    setting: Setting
    index: int = 0
    holdout: int | None = None
    holdout_accuracy: float | None = None

    def with_setting(self, setting: Setting) -> 'Choice':
        """Return a copy with another setting, for a network that was trained again."""
        return replace(self, setting=setting)

    def found(self) -> dict:
        """Return the ``chosen`` dict of a results row: empty for a sweep of one setting."""
        if self.holdout is None:
            return {}
        return dict(
            lr=self.setting.lr,
            weight_decay=self.setting.weight_decay,
            epochs=self.setting.epochs,
            holdout_accuracy=self.holdout_accuracy,
        )

    def parameters(self, recipe: Recipe, images: int) -> dict:
        """Return the parameters of a sweep for the ``protocol`` dict of a results row.

        Args:
            recipe: the sweep.
            images: number of images that the measured network was trained on.
        """
        parameters = recipe.to_builtin()
        candidates = dict(
            lr=parameters.pop('lrs'),
            weight_decay=parameters.pop('weight_decays'),
            epochs=parameters.pop('epochs'),
        )
        del parameters['source']  # two recipes with the same numbers are one protocol
        parameters['batch_size'] = min(recipe.batch_size, images)
        if self.holdout is None:
            parameters['lr'] = self.setting.lr
            parameters['weight_decay'] = self.setting.weight_decay
            parameters['epochs'] = self.setting.epochs
        else:
            parameters['candidates'] = candidates
            parameters['holdout'] = self.holdout
        return parameters


def choose(
    settings: list[Setting], scores: list[float], images: int, metric: str = 'top1'
) -> Choice:
    """Choose the setting with the best score on the hold-out, and print all scores.

    Of several settings with the best score, the first is chosen.

    Args:
        settings: settings of the sweep.
        scores: value of the metric for each setting, in percent.
        images: number of held-out images.
        metric: 'top1' or 'mean_per_class'.
    """
    best = int(np.argmax(scores))
    print(f'{METRIC_NAMES[metric]} in percent on {images:,} held-out images')
    for i, (setting, score) in enumerate(zip(settings, scores, strict=True)):
        mark = '  <- chosen' if i == best else ''
        print(f'{score:8.2f}  {setting}{mark}')
    lrs = [s.lr for s in settings]
    if len(set(lrs)) > 2 and settings[best].lr in (min(lrs), max(lrs)):
        print(
            f'warning: the best learning rate {settings[best].lr:g} is at the end of the range; '
            f'widen it with --lrs'
        )
    return Choice(settings[best], best, images, scores[best])
