"""Variants of BYOL for the trials of byol_budget.py: the target's start and its decay over time."""

from typing import Any

import torch

from ssl_zoo.errors import ConfigError, nearest
from ssl_zoo.methods.byol import BYOL
from ssl_zoo.registry import METHODS

DECAYS = ('cosine', 'constant', 'rising')


@METHODS.register_module(force=True)
class BYOLVariant(BYOL):
    """BYOL with another start of the target or another course of its decay.

    Args:
        copy_start: whether the target starts as a copy of the online network.
        course: 'cosine' is BYOL's; 'constant' stays at base_ema; 'rising' is the least of base_ema
            and (1 + k)/(10 + k) at step k, which copies nearly all of the online network at first
            (the warm-up of averages in TensorFlow's ExponentialMovingAverage).
        predictor_lr: factor on the predictor's learning rate.
    """

    def __init__(
        self,
        copy_start: bool = False,
        course: str = 'cosine',
        predictor_lr: float = 1.0,
        **arguments: Any,
    ):
        super().__init__(**arguments)
        if course not in DECAYS:
            raise ConfigError(f'course is {course!r}: {nearest(course, DECAYS)}')
        self.course = course
        self.lr_scale = {'predictor': predictor_lr}
        self.register_buffer('steps', torch.zeros((), dtype=torch.int64))
        if copy_start:
            self.target.network.load_state_dict(self.online.state_dict())

    @property
    def decay(self) -> float:
        if self.course == 'cosine':
            return super().decay
        if self.course == 'constant':
            return self.base_ema
        steps = int(self.steps)
        return min(self.base_ema, (1 + steps) / (10 + steps))

    def after_step(self) -> None:
        super().after_step()
        self.steps += 1
