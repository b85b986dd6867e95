"""Imported weights as a method: what every evaluation looks at, and nothing that trains."""

from collections import OrderedDict

from torch import Tensor, nn

from ssl_zoo.backbones import build_backbone
from ssl_zoo.errors import ConfigError, nearest
from ssl_zoo.method import Method
from ssl_zoo.registry import METHODS

ACTIVATIONS = dict(relu=nn.ReLU, gelu=nn.GELU)


def build_projector(layers: list) -> nn.Sequential:
    """A projector from plain values, (B, D) -> (B, D').

    Args:
        layers: ['linear', inputs, outputs, whether with bias], ['batchnorm', width, whether with scale and offset], ['relu'] or ['gelu'].
    """
    out = []
    for kind, *arguments in layers:
        if kind == 'linear':
            inputs, outputs, bias = arguments
            out.append(nn.Linear(inputs, outputs, bias=bias))
        elif kind == 'batchnorm':
            width, affine = arguments
            out.append(nn.BatchNorm1d(width, affine=affine))
        elif kind in ACTIVATIONS:
            out.append(ACTIVATIONS[kind]())
        else:
            raise ConfigError(
                f'a projector has no layer {kind!r}: {nearest(kind, ("linear", "batchnorm", *ACTIVATIONS))}'
            )
    return nn.Sequential(*out)


@METHODS.register_module()
class Imported(Method):
    """Networks that another library has trained, see tools/import.py.

    Args:
        backbone: keys of build_backbone, at least ``name``.
        projector: see build_projector; None for no projector.
        target: whether there is a second network, the average that followed the first.
        main: the network that evaluation looks at by default, 'online' or 'target' (DINO's teacher).
        source: where the weights are from: file, SHA-256, layout, steps.
    """

    def __init__(
        self,
        backbone: dict,
        projector: list | None = None,
        target: bool = False,
        main: str = 'online',
        source: dict | None = None,
    ):
        super().__init__()
        names = ('online', 'target') if target else ('online',)
        if main not in names:
            raise ConfigError(f'main is {main!r}: {nearest(main, names)}')
        for name in names:
            parts = dict(backbone=build_backbone(**backbone))
            if projector is not None:
                parts['projector'] = build_projector(projector)
            setattr(self, name, nn.Sequential(OrderedDict(parts)))
        if target:
            self.target.requires_grad_(False)  # as an EMA network's
        self.networks = {name: (f'{name}.backbone', f'{name}.projector') for name in names}
        self.main, self.source = main, source

    @property
    def backbone(self) -> nn.Module:
        return getattr(self, self.main).backbone

    @property
    def embed_dim(self) -> int:
        return self.backbone.embed_dim

    def loss(self, views: list[Tensor], **batch) -> dict[str, Tensor | float]:
        raise ConfigError(
            "'Imported' holds finished weights and has no loss to train with; evaluate its checkpoint, or train one of the "
            'methods in configs/'
        )
