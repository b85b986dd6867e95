"""The method of an imported checkpoint: networks for evaluation and export, without a loss."""

from collections import OrderedDict
from typing import Any, NoReturn

from torch import Tensor, nn

from ssl_zoo.backbones import build_backbone
from ssl_zoo.errors import ConfigError, nearest
from ssl_zoo.method import Method
from ssl_zoo.registry import METHODS

ACTIVATIONS = dict(relu=nn.ReLU, gelu=nn.GELU)


def build_projector(layers: list[list]) -> nn.Sequential:
    """Build a projector, (B, D) -> (B, D'), from plain values that a config can hold.

    Args:
        layers: one list per layer: ['linear', inputs, outputs, has_bias], ['batchnorm', width,
            has_scale_and_offset], ['relu'] or ['gelu'].
    Raises:
        ConfigError: a layer is of an unknown kind.
    """
    modules = []
    for kind, *arguments in layers:
        if kind == 'linear':
            inputs, outputs, has_bias = arguments
            modules.append(nn.Linear(inputs, outputs, bias=has_bias))
        elif kind == 'batchnorm':
            width, affine = arguments
            modules.append(nn.BatchNorm1d(width, affine=affine))
        elif kind in ACTIVATIONS:
            modules.append(ACTIVATIONS[kind]())
        else:
            allowed = ('linear', 'batchnorm', *ACTIVATIONS)
            raise ConfigError(f'a projector has no layer {kind!r}: {nearest(kind, allowed)}')
    return nn.Sequential(*modules)


@METHODS.register_module()
class Imported(Method):
    """Networks that another library has trained, see tools/import.py.

    Args:
        backbone: arguments of build_backbone, at least ``name``.
        projector: layers for build_projector; None for no projector.
        target: whether the checkpoint has a second network, the moving average of the first.
        main: network that evaluations use by default, 'online' or 'target' (DINO's teacher).
        source: origin of the weights: file, SHA-256, layout, steps.
    Raises:
        ConfigError: ``main`` names a network that the checkpoint does not have.
    """

    def __init__(
        self,
        backbone: dict,
        projector: list[list] | None = None,
        target: bool = False,
        main: str = 'online',
        source: dict | None = None,
    ):
        super().__init__()
        roles = ('online', 'target') if target else ('online',)
        if main not in roles:
            raise ConfigError(f'main is {main!r}: {nearest(main, roles)}')
        for role in roles:
            parts = dict(backbone=build_backbone(**backbone))
            if projector is not None:
                parts['projector'] = build_projector(projector)
            setattr(self, role, nn.Sequential(OrderedDict(parts)))
        if target:
            self.target.requires_grad_(False)  # like every target network that is an EMA
        self.networks = {role: (f'{role}.backbone', f'{role}.projector') for role in roles}
        self.main = main
        self.source = source

    @property
    def backbone(self) -> nn.Module:
        """Backbone of the main network, (B, C, H, W) float32 -> (B, embed_dim)."""
        return getattr(self, self.main).backbone

    @property
    def embed_dim(self) -> int:
        """Number of features of the backbone."""
        return self.backbone.embed_dim

    def loss(self, views: list[Tensor], **batch: Any) -> NoReturn:
        """Raises ConfigError: imported weights are not trained further."""
        raise ConfigError(
            "'Imported' holds finished weights and has no loss to train with; evaluate its "
            'checkpoint, or train one of the '
            'methods in configs/'
        )
