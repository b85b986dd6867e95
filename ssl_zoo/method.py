"""The contract of a method, and the hook that drives it.

A method is a subclass of Method with one required function, ``loss``. What happens once per optimiser step (EMA, queue,
centre) goes into ``after_step``, which MethodHook calls: mmengine's DDP wrapper has a train_step of its own, so one
overridden in a method would be ignored there without a word.
"""

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from ssl_zoo.errors import ConfigError, nearest


class Method(BaseModel):
    """Base of all methods.

    Attributes:
        backbone: the network that is kept after pretraining, (B, 3, H, W) -> (B, embed_dim).
        embed_dim: width of its output.
        progress: share of training done, optimiser steps / all optimiser steps, in [0, 1).
        epoch: passes over the training images done, with fraction.
        n_views: how many views ``loss`` takes, None for any number of at least ``min_views``.
        microbatch_multiple, microbatch_minimum: the images of a forward pass, over all processes, must be a multiple of the one and at least the other.
        fixed_lr: prefixes of parameter names whose learning rate stays at its peak (SimSiam's predictor).
        lr_scale: factors on the learning rate, by prefix of parameter names.
        frozen: prefixes of parameter names that the present step leaves alone; a property may look at ``epoch`` (SwAV's
            prototypes, DINO's last layer, in their first epoch).
        batch_coupling: what of the loss looks at the other images of a pass, besides BatchNorm: with accumulation it sees fewer. '' for
            nothing.
        sync_batchnorm: whether BatchNorm's statistics are those of all processes; MoCo's must not be.
        unused_parameters: whether a step may leave a trained parameter without gradient.
        updated_after_step: prefixes of the names in ``state_dict`` that ``after_step`` changes; it changes nothing else.
        networks: the names of backbone and projector in the network that is trained ('online') and in the average that follows
            it ('target'), if there is one, for evaluation to look at.
    """

    backbone: nn.Module
    embed_dim: int
    progress: float = 0.0
    epoch: float = 0.0
    n_views: int | None = None
    min_views: int = 1
    microbatch_multiple: int = 1
    microbatch_minimum: int = 2
    fixed_lr: tuple[str, ...] = ()
    lr_scale: dict[str, float] = {}
    frozen: tuple[str, ...] = ()
    batch_coupling: str = ''
    sync_batchnorm: bool = True
    unused_parameters: bool = False
    updated_after_step: tuple[str, ...] = ()
    networks: dict[str, tuple[str, str]] = {'online': ('backbone', 'projector')}

    def loss(self, views: list[Tensor], **batch) -> dict[str, Tensor | float]:
        """The method's idea.

        Args:
            views: one float tensor (B, 3, H, W) per view, normalised.
            batch: what else the loader gives: ``index`` (B,) int64, the images' positions in the data set. Never labels.

        Returns:
            {'loss': scalar to minimise} and scalars to log, under names without 'loss' in them.
        """
        raise NotImplementedError(f'{type(self).__name__} must define loss(self, views, **batch)')

    def after_step(self) -> None:
        """Called once per optimiser step, after it."""

    def embed(self, images: Tensor) -> Tensor:
        """The backbone's features: (B, 3, H, W) float, normalised -> (B, embed_dim). Evaluation goes through ``encoder``."""
        return self.backbone(images)

    def encoder(self, network: str | None = None, layer: str = 'backbone') -> nn.Module:
        """A part of the method for evaluation, (B, 3, H, W) float, normalised -> (B, D). It shares its weights with the method.

        Args:
            network: 'online' or 'target'; None for the one that ``backbone`` belongs to.
            layer: 'backbone', or 'projector' for what the projector makes of it.
        Raises:
            ConfigError: the method has no such part.
        """
        name, cls = self.main_network if network is None else network, type(self).__name__
        if name not in self.networks:
            raise ConfigError(f'{cls} has no {name!r} network: {nearest(name, self.networks)}')
        if layer not in ('backbone', 'projector'):
            raise ConfigError(
                f'the layer is {layer!r}: {nearest(layer, ("backbone", "projector"))}'
            )
        backbone, projector = self.networks[name]
        if layer == 'backbone':
            return self.get_submodule(backbone)
        try:
            return nn.Sequential(self.get_submodule(backbone), self.get_submodule(projector))
        except AttributeError:
            raise ConfigError(
                f'{cls} has no projector under the name {projector!r}, only its backbone can be looked at; its attribute '
                f'``networks`` names both'
            ) from None

    @property
    def main_network(self) -> str:
        """The name of the network that ``backbone`` belongs to."""
        return next(
            (
                name
                for name, (path, _) in self.networks.items()
                if self.get_submodule(path) is self.backbone
            ),
            'online',
        )

    def forward(self, views: list[Tensor], mode: str = 'loss', **batch) -> dict[str, Tensor]:
        """mmengine's entry: checks and converts what ``loss`` returns."""
        terms = self.loss(views, **batch)
        # mmengine adds up every value whose name contains 'loss', so a second one would be optimised without a word.
        wrong = [k for k in terms if 'loss' in k and k != 'loss']
        if 'loss' not in terms or wrong:
            raise ValueError(
                f'{type(self).__name__}.loss must return exactly one name with "loss" in it, "loss"; '
                f'got {sorted(terms)}'
            )
        return {k: v if isinstance(v, Tensor) else torch.tensor(float(v)) for k, v in terms.items()}

    def init_weights(self) -> None:
        """Nothing: weights are drawn in __init__. mmengine's own version would re-draw timm's at the start of training."""
