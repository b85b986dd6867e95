"""A trained backbone for other libraries: written, read back by their own classes, and kept only if both give the same features."""

import copy
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ssl_zoo.data.sources import Source, Subset, build_source
from ssl_zoo.errors import ConfigError, MissingData, nearest
from ssl_zoo.evaluation.features import Preprocessing, embedded
from ssl_zoo.evaluation.protocols.context import EvaluationContext, printable
from ssl_zoo.interop.model_card import about, model_card, preprocessing_code
from ssl_zoo.interop.target_libraries import RebuildRecipe, timm_recipe, torchvision_recipe
from ssl_zoo.storage.atomic import atomic_write
from ssl_zoo.storage.digest import sha256_of_file
from ssl_zoo.validation import check_positive

SUFFIXES = dict(
    timm=('.pth', '.pt'),
    torchvision=('.pth', '.pt'),
    safetensors=('.safetensors',),
    onnx=('.onnx',),
)
FORMATS = tuple(SUFFIXES)
READERS = dict(
    timm='timm', torchvision='torchvision', safetensors='safetensors and timm', onnx='onnxruntime'
)
TOLERANCE = (
    1e-4  # largest difference of a feature that is put down to another order of the same sums
)
BATCH = 16  # images of the proof that are in memory at a time; not the batch that the ONNX graph is traced with
ONNX_LIMIT = 2**31  # bytes: protobuf's limit for one file


@dataclass(frozen=True)
class Proof:
    """Attributes: difference: the largest between two features; scale: the largest feature; images: how many; source: of which set."""

    difference: float
    scale: float
    images: int
    source: str

    def __str__(self) -> str:
        return (
            f'largest difference {self.difference:.2g} over {self.images:,} {self.source} images, where the largest feature is '
            f'{self.scale:.3g}'
        )


@dataclass(frozen=True)
class Format:
    """Attributes: write: (file) -> None; read: (path) -> (B, 3, H, W) -> (B, D), by the other library alone; code: lines of Python that
    load it from ``path``."""

    write: Callable
    read: Callable[[Path], Callable[[Tensor], Tensor]]
    code: tuple[str, ...]


def export(context: EvaluationContext, form: str, out: str, images: int = 64) -> Proof:
    """Write the backbone of a checkpoint in another library's format and say how to load it.

    The file is written under a temporary name, read back into the other library's class, and given its name only if that gives the
    zoo's features on real images, in float32 on the CPU.

    Args:
        context: the checkpoint and which of its networks.
        form: one of FORMATS. 'safetensors' (timm's names) writes a model card, README.md, beside the file.
        out: the file; neither it nor the card may be there already.
        images: how many of the run's test images (without a test set of its validation, else training images) are compared.
    Raises:
        ConfigError: a format that cannot hold this network, a package or images that are not there, a difference above TOLERANCE
            (where all features are below 1, above so much of the largest), a file that cannot be written.
    """
    if form not in FORMATS:
        raise ConfigError(f'the format is {form!r}: {nearest(form, FORMATS)}')
    check_positive(images=images)
    out = Path(out)
    card = out.with_name('README.md') if form == 'safetensors' else None
    _check_free(form, out, card)
    encoder = (
        copy.deepcopy(context.encoder)
        .to('cpu', torch.float32, memory_format=torch.contiguous_format)
        .eval()
    )
    made = _format(context, encoder, form, out.name)
    source, name = _images(context.settings.data, images)
    preprocessing = replace(context.preprocessing, precision='float32', channels_last=False)
    facts = {}

    def write(file) -> None:
        try:
            made.write(file)
        except RuntimeError as error:  # torch's, when its archive cannot be finished
            raise OSError(_first_line(error)) from None
        file.flush()
        proof = facts['proof'] = prove(
            encoder, made.read, Path(file.name), source, name, preprocessing
        )
        limit = TOLERANCE * min(1.0, proof.scale)  # small features are no excuse
        if not proof.difference <= limit:  # nan is refused too
            others = ', '.join(other for other in FORMATS if other != form)
            raise ConfigError(
                f'not exported: read back by {READERS[form]}, the features differ ({proof}), more than the {limit:.2g} '
                f'allowed; use another format ({others})'
            )
        facts['sha256'] = sha256_of_file(file.name)
        if card:
            size = Path(file.name).stat().st_size
            facts['card'] = model_card(
                context, encoder, out.name, size, facts['sha256'], made.code, proof
            ).encode(errors='replace')

    try:
        atomic_write(out, write)
    except OSError as error:
        raise ConfigError(
            f'could not write {out}: {error}; free some space, or choose another --out'
        ) from None
    if card:  # it speaks of a file, which must be there before it
        try:
            atomic_write(card, lambda readme: readme.write(facts['card']))
        except OSError as error:
            raise ConfigError(
                f'{out} is there, proven, sha256 {facts["sha256"]}, but its model card {card} could not be written: {error}; '
                f'to have both, free some space, remove {out.name} and export it again'
            ) from None
    print(
        f'{out}: {out.stat().st_size / 2**20:.1f} MiB, sha256 {facts["sha256"]}'
        + (f'; model card in {card}' if card else '')
    )
    print(
        f'  {context.settings.method["type"]}, {context.network} backbone of step {context.step:,}'
    )
    print(f'  read back by {READERS[form]}: {facts["proof"]}')
    print(
        'to load it:\n'
        + ''.join(f'    {line}\n' for line in made.code)
        + 'its images:\n'
        + ''.join(f'    {line}\n' for line in preprocessing_code(preprocessing)),
        end='',
        flush=True,
    )
    return facts['proof']


def prove(
    encoder: nn.Module,
    read: Callable,
    path: Path,
    source: Source,
    name: str,
    preprocessing: Preprocessing,
) -> Proof:
    """Read the file back and compare its features with the encoder's, image by image.

    Raises:
        ConfigError: the other library cannot read or run it, no image can be read, or all features are 0 and prove nothing.
    """
    try:
        theirs = read(path)
    except Exception as error:  # as many types as there are libraries
        raise ConfigError(
            f'not exported: the file cannot be read back ({_first_line(error)})'
        ) from None

    def both(x: Tensor) -> Tensor:
        own = encoder(x)
        try:
            other = theirs(x)
        except Exception as error:
            raise ConfigError(
                f'not exported: what was read back cannot be run ({_first_line(error)})'
            ) from None
        if other.shape != own.shape:
            raise ConfigError(
                f'not exported: what was read back gives {tuple(other.shape)} for {len(x)} images, and the backbone '
                f'{tuple(own.shape)}'
            )
        return torch.stack([own, other], dim=1)

    differences, scales, n = [], [], 0
    for positions, values, _ in embedded(both, source, preprocessing, torch.device('cpu'), BATCH):
        if values is not None:
            differences.append(np.abs(values[:, 0] - values[:, 1]).max())
            scales.append(np.abs(values[:, 0]).max())
            n += len(positions)
    if not n:
        raise ConfigError(
            f'none of the {len(source)} {name} images can be read, and the proof needs some; {_other_images()}'
        )
    scale = float(np.max(scales))
    if scale == 0:
        raise ConfigError(
            f'not exported: all features of {n} {name} images are 0, so nothing can be proven by them'
        )
    return Proof(float(np.max(differences)), scale, n, name)


def _check_free(form: str, out: Path, card: Path | None) -> None:
    if out.suffix not in SUFFIXES[form]:
        raise ConfigError(
            f'--out is {out}, but a file for {form} ends in {" or ".join(SUFFIXES[form])}'
        )
    for path in (out, card) if card else (out,):
        if path.exists():
            raise ConfigError(
                f'{path} is there already and is not overwritten; remove it, or choose another --out'
            )


def _images(data, images: int) -> tuple[Source, str]:
    """So many images, spread over the set; and its name."""
    name = next(name for name in ('test', 'val', 'train') if isinstance(getattr(data, name), dict))
    try:
        source = build_source(getattr(data, name))
    except MissingData as error:
        raise ConfigError(
            f'the exported file is proven on images, and data.{name} is not on this machine ({error}); '
            f'{_other_images()}'
        ) from None
    return Subset(
        source, np.unique(np.linspace(0, len(source) - 1, min(images, len(source))).astype(int))
    ), name


def _other_images() -> str:
    return "give others with --cfg-options \"data.test={'type': 'Images', 'root': '/my/photos'}\""


def _first_line(error: Exception) -> str:
    return printable(f'{type(error).__name__}: {next(iter(str(error).splitlines()), "")}')


def _format(context: EvaluationContext, encoder: nn.Module, form: str, name: str) -> Format:
    if form == 'onnx':
        return _onnx(context, encoder, name)
    make = torchvision_recipe if form == 'torchvision' else timm_recipe
    recipe = make(encoder, context.settings.method.get('backbone'))
    state = {key: value.detach().clone() for key, value in encoder.state_dict().items()}
    state = recipe.rename(state)
    if form == 'safetensors':
        from safetensors.torch import load_file, save

        code = (
            'import torch',
            'from safetensors.torch import load_file',
            *recipe.code,
            f'weights = load_file({name!r})',
        )
        return Format(
            lambda file: file.write(save(state, dict(about(context), format='pt'))),
            _reader(recipe, load_file),
            (*code, *recipe.load_code),
        )

    def load(path):
        return torch.load(path, map_location='cpu', weights_only=True)

    code = (
        'import torch',
        *recipe.code,
        f'weights = torch.load({name!r}, weights_only=True)',
        *recipe.load_code,
    )
    return Format(lambda file: torch.save(state, file), _reader(recipe, load), code)


def _reader(recipe: RebuildRecipe, load: Callable[[Path], dict]) -> Callable[[Path], nn.Module]:
    return lambda path: recipe.load(recipe.build(), load(path)).eval()


def _onnx(context: EvaluationContext, encoder: nn.Module, name: str) -> Format:
    missing = [
        package
        for package in ('onnx', 'onnxscript', 'onnxruntime')
        if importlib.util.find_spec(package) is None
    ]
    if missing:
        raise ConfigError(
            f'--format onnx needs {", ".join(missing)}, which {"is" if len(missing) == 1 else "are"} not installed: '
            f"python -m pip install 'ssl_zoo[export]', or -e '.[export]' in a clone"
        )
    if (size := sum(value.nbytes for value in encoder.state_dict().values())) >= ONNX_LIMIT:
        raise ConfigError(
            f'this backbone has {size / 2**30:.1f} GiB of weights, and an ONNX file holds less than 2; use --format timm '
            f'or safetensors'
        )

    def write(file) -> None:
        import onnx

        side = context.preprocessing.size
        # Two images: torch.export takes a size of 1 for a constant.
        example = torch.zeros(2, 3, side, side)
        try:
            program = torch.onnx.export(
                encoder,
                (example,),
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
                verbose=False,
                input_names=['images'],
                output_names=['features'],
            )
        except Exception as error:
            raise ConfigError(
                f"torch's ONNX exporter cannot take this backbone ({_first_line(error)}); use --format timm or "
                f'safetensors'
            ) from None
        graph = program.model_proto
        onnx.helper.set_model_props(graph, about(context))
        file.write(graph.SerializeToString())

    def read(path: Path) -> Callable[[Tensor], Tensor]:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(
            str(path), options, providers=['CPUExecutionProvider']
        )
        return lambda x: torch.from_numpy(session.run(['features'], dict(images=x.numpy()))[0])

    code = (
        'import onnxruntime',
        f'session = onnxruntime.InferenceSession({name!r})',
        "features = session.run(['features'], {'images': images.numpy()})[0]     # images: (B, 3, H, W) float32, any B",
    )
    return Format(write, read, code)
