"""The contract of a method.

A method subclasses Method and defines one function, ``loss``. What happens once per optimizer step
(EMA, queue, centre) goes into ``after_step``, which the trainer (engine/trainer.py) calls. A
method must not override ``train_step`` for this: on several processes mmengine's DDP wrapper uses
its own ``train_step`` and silently ignores the method's.
"""

from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from ssl_zoo.errors import ConfigError, nearest


class Method(BaseModel):
    """Base class of all methods.

    A micro-batch is the images of one forward and backward pass, counted over all processes.

    Attributes:
        backbone: network that is kept after pretraining, (B, 3, H, W) -> (B, embed_dim).
        embed_dim: width of the backbone's output.
        progress: optimizer steps done / all optimizer steps, in [0, 1); set before each step.
        epoch: passes over the training images done, with fraction; set before each step.
        decay: decay of the target network, a moving average of the trained network, in the current
            step; it may depend on ``progress``. None without a target network. The plan of a run
            sums 1 - decay over the steps.
        n_views: number of views that ``loss`` takes; None for any number from ``min_views`` on.
        min_views: smallest number of views that ``loss`` takes.
        microbatch_multiple: number that must divide the size of a micro-batch.
        microbatch_minimum: smallest size of a micro-batch.
        fixed_lr: prefixes of parameter names; their learning rate stays at its peak (SimSiam's
            predictor).
        lr_scale: prefix of parameter names -> factor on their learning rate.
        frozen: prefixes of parameter names that the current step must not update. A property can
            depend on ``epoch`` (SwAV's prototypes and DINO's last layer, in their first epoch).
        batch_coupling: term of the loss that couples the images of a micro-batch, besides BatchNorm
            ('negatives'); '' if there is none. With gradient accumulation the term covers fewer
            images, and the run's plan says so.
        sync_batchnorm: whether BatchNorm takes its statistics over all processes; False for MoCo,
            which needs them per process.
        unused_parameters: whether a step may leave a trained parameter without a gradient.
        updated_after_step: prefixes of the names in ``state_dict`` that ``after_step`` changes;
            ``after_step`` must change nothing else.
        warnings: sentences that figures of the networks must carry.
        networks: role -> names of the submodules (backbone, projector) of that role. 'online' is
            the trained network, 'target' its moving average, if the method has one.
    """

    backbone: nn.Module
    embed_dim: int
    progress: float = 0.0
    epoch: float = 0.0
    decay: float | None = None
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
    warnings: tuple[str, ...] = ()
    networks: dict[str, tuple[str, str]] = {'online': ('backbone', 'projector')}

    def loss(self, views: list[Tensor], **batch: Any) -> dict[str, Tensor | float]:
        """Compute the loss of one micro-batch. Every method must define this function.

        Args:
            views: one float tensor (B, 3, H, W) per view, normalised; B images of this process.
            batch: ``index`` (B,) int64, positions of the images in the data set. Never labels.

        Returns:
            {'loss': scalar to minimise} and scalars to log, whose names must not contain 'loss'.
        """
        raise NotImplementedError(f'{type(self).__name__} must define loss(self, views, **batch)')

    def after_step(self) -> None:
        """Update what the optimizer does not train. Called once after each optimizer step."""

    def embed(self, images: Tensor) -> Tensor:
        """Compute the backbone's features: (B, 3, H, W) float, normalised -> (B, embed_dim)."""
        return self.backbone(images)

    def encoder(self, network: str | None = None, layer: str = 'backbone') -> nn.Module:
        """Return the network to evaluate, (B, 3, H, W) float, normalised -> (B, D).

        The network shares its weights with the method.

        Args:
            network: 'online' or 'target'; None for ``main_network``.
            layer: 'backbone', or 'projector' for the output of the projector behind it.

        Raises:
            ConfigError: the method has no such network, layer or projector.
        """
        cls = type(self).__name__
        if network is None:
            network = self.main_network
        if network not in self.networks:
            raise ConfigError(
                f'{cls} has no {network!r} network: {nearest(network, self.networks)}'
            )
        layers = ('backbone', 'projector')
        if layer not in layers:
            raise ConfigError(f'the layer is {layer!r}: {nearest(layer, layers)}')
        backbone_name, projector_name = self.networks[network]
        backbone = self.get_submodule(backbone_name)
        if layer == 'backbone':
            return backbone
        try:
            projector = self.get_submodule(projector_name)
        except AttributeError:
            raise ConfigError(
                f'{cls} has no projector under the name {projector_name!r}, so only its backbone '
                f'can be evaluated; the attribute ``networks`` of the method names both'
            ) from None
        return nn.Sequential(backbone, projector)

    @property
    def main_network(self) -> str:
        """The role of the network that ``backbone`` belongs to."""
        for role, (backbone_name, _) in self.networks.items():
            if self.get_submodule(backbone_name) is self.backbone:
                return role
        return 'online'

    def forward(self, views: list[Tensor], mode: str = 'loss', **batch: Any) -> dict[str, Tensor]:
        """Call ``loss`` and check its result. mmengine calls this; ``mode`` is ignored."""
        terms = self.loss(views, **batch)
        # mmengine minimises the sum of all values whose names contain 'loss': a second such value
        # would silently be minimised too.
        names_with_loss = [name for name in terms if 'loss' in name]
        if names_with_loss != ['loss']:
            raise ValueError(
                f'{type(self).__name__}.loss must return exactly one name with "loss" in it, '
                f'"loss"; got {sorted(terms)}'
            )
        return {name: _as_tensor(value) for name, value in terms.items()}

    def init_weights(self) -> None:
        """Do nothing: weights are drawn in __init__. mmengine's version would redraw timm's."""


def _as_tensor(value: Tensor | float) -> Tensor:
    if isinstance(value, Tensor):
        return value
    return torch.tensor(float(value))
