"""Weights that a run begins with: those of another run, or of an imported file (``init_from``)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ssl_zoo.backbones import other_channels
from ssl_zoo.build import load_weights
from ssl_zoo.checkpoint import read_checkpoint
from ssl_zoo.config.settings import Settings
from ssl_zoo.data.data_digest import trained_on
from ssl_zoo.errors import ConfigError, nearest
from ssl_zoo.method import Method
from ssl_zoo.storage.digest import sha256_of_file

PARTS = ('backbone', 'method')


@dataclass(frozen=True)
class InitialWeights:
    """Weights from a checkpoint, for the start of a run.

    Attributes:
        path: the checkpoint.
        part: 'backbone' or 'method'.
        sha256: hash of the file.
        step: optimizer steps that the weights were trained for.
        method_type: type of the method in the file.
        weights: state_dict of the method in the file, on the CPU.
        train_data: digest of the images that the weights were trained on; None if it is not known.
    """

    path: Path
    part: str
    sha256: str
    step: int
    method_type: str
    weights: dict[str, Tensor]
    train_data: str | None

    def facts(self) -> dict[str, Any]:
        """Return what a checkpoint of the run records; the file is not needed afterwards."""
        return dict(
            file=str(self.path),
            part=self.part,
            sha256=self.sha256,
            step=self.step,
            train_data=self.train_data,
        )

    def describe(self) -> str:
        """Return the text that the trainer logs after the plan."""
        what = 'the whole method' if self.part == 'method' else 'the backbones'
        return (
            f'{what} from {self.path} ({self.method_type}, step {self.step}, '
            f'SHA-256 {self.sha256[:12]}); the optimizer begins anew'
        )

    def load_into(self, method: Method) -> None:
        """Copy the weights into a method that is not wrapped yet, bit for bit.

        With part='backbone' the backbone of the file's trained network is copied into every
        backbone of the method, also into that of a moving average; heads, predictors and queues
        keep their random start.

        Raises:
            ConfigError: names or shapes differ.
        """
        if self.part == 'method':
            load_weights(method, self.weights, self.path)
            return
        for name, _ in method.networks.values():
            self._load_backbone(method, name)

    def _load_backbone(self, method: Method, name: str) -> None:
        backbone = method.get_submodule(name)
        own = backbone.state_dict()
        prefix = _backbone_prefix(self.weights, set(own))
        if prefix is None:
            example = next(iter(own), 'nothing')
            raise ConfigError(
                f'init_from: {self.path} ({self.method_type}) holds no backbone with the names of '
                f"this config's (such as {example}); give a checkpoint with the same "
                f'method.backbone'
            )
        weights = {key: self.weights[prefix + key] for key in own}
        shapes = {key: tuple(value.shape) for key, value in weights.items()}
        channels = other_channels(own, shapes)
        if channels:
            raise ConfigError(f'init_from: {self.path} does not fit the backbone: {channels}')
        for key, value in own.items():
            if value.shape != weights[key].shape:
                raise ConfigError(
                    f'init_from: {key} of the backbone is {tuple(weights[key].shape)} in '
                    f'{self.path} and {tuple(value.shape)} in this config; give a checkpoint with '
                    f'the same method.backbone'
                )
        backbone.load_state_dict(weights)


def _backbone_prefix(weights: dict[str, Tensor], names: set[str]) -> str | None:
    """Return the prefix under which a state_dict holds all names; the trained network's first.

    A method registers its trained network before the moving average.
    """
    first = next(iter(sorted(names)), None)
    if first is None:
        return None
    for key in weights:
        if key == first or key.endswith('.' + first):
            prefix = key[: len(key) - len(first)]
            if all(prefix + name in weights for name in names):
                return prefix
    return None


def read_initial_weights(settings: Settings) -> InitialWeights | None:
    """Read the weights that ``settings.init_from`` names; None without it.

    Raises:
        ConfigError: ``init_from`` has a mistake, or the file is not a checkpoint of this library.
    """
    if settings.init_from is None:
        return None
    wanted = settings.init_from
    if isinstance(wanted, str):
        wanted = dict(file=wanted)
    unknown = wanted.keys() - {'file', 'part'}
    if unknown or not isinstance(wanted.get('file'), str):
        raise ConfigError(
            f'init_from={settings.init_from!r}, but it must be the path of a checkpoint, or '
            f"dict(file='...', part='backbone' or 'method')"
        )
    part = wanted.get('part', 'backbone')
    if part not in PARTS:
        raise ConfigError(f'init_from.part is {part!r}: {nearest(str(part), PARTS)}')
    path = Path(wanted['file'])
    try:
        content = read_checkpoint(path)
    except ConfigError as error:
        raise ConfigError(
            f'init_from: {error}; weights of other libraries become a checkpoint by '
            f'`ssl-zoo import {path} --out FOLDER`'
        ) from None
    method_type = str(content['config'].get('method', {}).get('type'))
    return InitialWeights(
        path,
        part,
        sha256_of_file(path),
        content['step'],
        method_type,
        content['method'],
        trained_on(content),
    )


def begins_with_weights(settings: Settings) -> bool:
    """Whether a run begins with weights from elsewhere, not with random ones."""
    backbone = settings.method.get('backbone')
    pretrained = isinstance(backbone, dict) and any(
        backbone.get(key) for key in ('pretrained', 'checkpoint_path', 'weights')
    )
    return pretrained or settings.init_from is not None
