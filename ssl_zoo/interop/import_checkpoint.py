"""Import a checkpoint of another library as a checkpoint of ssl_zoo for every evaluation.

The foreign file is read as data, its layout is recognised, its weights are compared name by name
with those of the network, and the checkpoint is written.
"""

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ssl_zoo.architecture_keys import architecture, architecture_only
from ssl_zoo.backbones import build_backbone, other_channels
from ssl_zoo.build import EVALUATION_OPTIONS, build_method, fit_to_evaluation, load_method
from ssl_zoo.checkpoint import FORMAT, add_digest
from ssl_zoo.config.options import apply_option
from ssl_zoo.config.settings import Settings, settings_from_dict
from ssl_zoo.errors import ConfigError
from ssl_zoo.interop.architecture import backbone_arguments, parse_backbone, projector_layers
from ssl_zoo.interop.foreign_checkpoint import ForeignCheckpoint, Weights, abbreviate
from ssl_zoo.interop.import_config import imported_config
from ssl_zoo.interop.import_report import report_lines
from ssl_zoo.interop.layouts import find_networks
from ssl_zoo.interop.safe_unpickling import read_foreign
from ssl_zoo.method import Method
from ssl_zoo.storage.atomic import atomic_write
from ssl_zoo.storage.digest import sha256_of_file
from ssl_zoo.versions import versions

FILE = 'imported.pth'
# Names of layers after the features, in networks that keep such layers with the backbone.
HEADS = re.compile(
    r'(fc|head|heads|head_dist|classifier|last_linear|projection_head|prototypes|decoder)\.'
    r'|mask_token$|masked_embed$|decoder_(embed|pos_embed|blocks|norm|pred)\b'
)


@dataclass
class ImportReport:
    """The result of an import.

    Attributes:
        path: the checkpoint that was written.
        lines: text for the user: networks, data, names that were left out, warnings.
    """

    path: Path
    lines: list[str]


def import_checkpoint(
    file: str | Path,
    out: str | Path,
    layout: str = 'auto',
    backbone: str | None = None,
    options: Sequence[str] = (),
    prefix: str | None = None,
) -> ImportReport:
    """Write ``out``/imported.pth, a checkpoint for every evaluation, from another library's file.

    By default evaluations use the network that the library itself evaluates: the trained network,
    or for DINO its moving average. lightly evaluates the moving average in files with a
    student_backbone (DINO) or a query_backbone (MoCo v2).

    Args:
        file: a checkpoint in one of the layouts of ssl_zoo.interop.layouts.NAMES.
        out: a folder that has no imported.pth.
        layout: the file's layout; 'auto' recognises the layout by the names in the file.
        backbone: a model of timm, or arguments of build_backbone written as a dict; by default the
            arguments are found from the shapes of the weights.
        options: changes to the data part of the config, such as
            'data.test.root=/data/imagenet/val'.
        prefix: start of the backbone's names in the file; None to find it.
    Raises:
        ConfigError: the file cannot be read, has no known layout, or holds a backbone whose names
            or shapes differ from the network's; or the checkpoint cannot be written.
    """
    path = Path(out) / FILE
    if path.exists():
        raise ConfigError(
            f'{path} exists already, and the results beside it may belong to it; choose another '
            '--out'
        )
    found = find_networks(read_foreign(file), layout, prefix)
    online = found.networks['online'].backbone
    shapes = {name: tuple(value.shape) for name, value in online.items()}
    arguments = architecture(backbone_arguments(shapes, found, parse_backbone(backbone)))
    # The meta device gives names and shapes without memory for weights.
    with torch.device('meta'), architecture_only():
        network = build_backbone(**arguments)
    _leave_out_heads(found, network)
    backbones = {
        role: _fitted(each.backbone, network, f'{role} backbone')
        for role, each in found.networks.items()
    }
    layers, notes = projector_layers(found, network.embed_dim)
    source = dict(
        file=Path(file).name,
        sha256=sha256_of_file(file),
        layout=found.layout,
        steps=found.steps,
    )
    config = _with_options(imported_config(arguments, layers, found, source), options)
    settings = settings_from_dict(config)
    with torch.device('meta'):
        method = build_method(settings, from_file=True)
    _load_weights(method, backbones, found, has_projector=layers is not None)
    fitted = copy.deepcopy(method)
    fit_to_evaluation(fitted, settings)  # raises before a file is written
    _write(path, method, settings, found.steps)
    load_method(path)  # the checkpoint must load as it does in every evaluation
    lines = report_lines(found, method, settings, arguments, notes)
    lines += [f'warning    {warning}' for warning in fitted.warnings]
    return ImportReport(path, lines)


def _leave_out_heads(found: ForeignCheckpoint, network: nn.Module) -> None:
    """Move the names of classifiers and other heads from the backbones to ``found.left_out``."""
    known = network.state_dict().keys()
    for each in found.networks.values():
        heads = {name for name in each.backbone if name not in known and HEADS.match(name)}
        found.left_out += sorted(heads)
        each.backbone = {name: value for name, value in each.backbone.items() if name not in heads}


def _fitted(weights: Weights, network: nn.Module, part: str) -> dict[str, Tensor]:
    """Return the weights as a state_dict of the network, in the network's dtypes.

    Args:
        weights: weights from the file, by the network's names.
        network: the network that the weights should fit.
        part: name of the network for messages, such as 'online backbone'.
    Raises:
        ConfigError: a name or a shape is not the network's, or a value is not finite.
    """
    expected = network.state_dict()
    # torch counts BatchNorm's batches since version 0.4.1; older files lack the counters.
    counters = {name for name in expected if name.endswith('num_batches_tracked')}
    _check_names(weights, expected, counters, part)
    _check_shapes(weights, expected, part)
    state = {
        name: torch.zeros(expected[name].shape, dtype=expected[name].dtype) for name in counters
    }
    for name, value in weights.items():
        dtype = expected[name].dtype
        # The test comes after the cast: a large float64 is infinite as a float32.
        tensor = value.read().to(dtype).contiguous()
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise ConfigError(
                f'the {part} in the file has values in {name} that are not finite as {dtype}; take '
                'another checkpoint of that run'
            )
        state[name] = tensor
    return state


def _check_names(weights: Weights, expected: dict, optional: set[str], part: str) -> None:
    missing = expected.keys() - weights.keys() - optional
    unexpected = weights.keys() - expected.keys()
    differences = []
    if missing:
        differences.append(f'lacks {abbreviate(sorted(missing))}')
    if unexpected:
        differences.append(f'has besides {abbreviate(sorted(unexpected))}')
    if differences:
        raise ConfigError(
            f'the {part} in the file {" and ".join(differences)}; name the model with --backbone '
            'if the file holds another model'
        )


def _check_shapes(weights: Weights, expected: dict, part: str) -> None:
    shapes = {name: tuple(value.shape) for name, value in weights.items()}
    channels = other_channels(expected, shapes)
    if channels:
        raise ConfigError(f'the {part} in the file does not fit: {channels}')
    for name, shape in shapes.items():
        expected_shape = tuple(expected[name].shape)
        if shape != expected_shape:
            raise ConfigError(
                f'the {part} in the file has {name} of shape {shape}, and the network has it of '
                f'shape {expected_shape}; name the model with --backbone if the file holds another '
                'model'
            )


def _with_options(config: dict, options: Sequence[str]) -> dict:
    """Return the config with the user's options applied.

    Raises:
        ConfigError: an option changes more than data and evaluation.
    """
    for option in options:
        key = option.split('=')[0].split('.')[0]
        if key not in EVALUATION_OPTIONS:
            allowed = ', '.join(EVALUATION_OPTIONS)
            raise ConfigError(
                f'the option {option!r} would change what was trained; an import can change '
                f'{allowed}'
            )
        apply_option(config, option)
    return config


def _load_weights(
    method: Method,
    backbones: dict[str, dict[str, Tensor]],
    found: ForeignCheckpoint,
    has_projector: bool,
) -> None:
    for role, state in backbones.items():
        network = getattr(method, role)
        network.backbone.load_state_dict(state, assign=True)
        if has_projector:
            weights = found.networks[role].projector
            state = _fitted(weights, network.projector, f'{role} projector')
            network.projector.load_state_dict(state, assign=True)


def _write(path: Path, method: Method, settings: Settings, steps: int) -> None:
    content = dict(
        format=FORMAT,
        config=settings.to_builtin(),
        step=steps,
        method=method.state_dict(),
        versions=versions(),
    )
    try:
        atomic_write(path, lambda opened: torch.save(add_digest(content), opened))
    except (OSError, RuntimeError) as error:  # torch raises RuntimeError on a full disk
        raise ConfigError(
            f'could not write {path}: {str(error).splitlines()[0]}; free some space, or choose '
            'another --out'
        ) from None
