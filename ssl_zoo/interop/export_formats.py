"""The export formats: write a backbone, read it back with the other library, code for the user."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor, nn

from ssl_zoo.errors import ConfigError
from ssl_zoo.evaluation.protocols.context import EvaluationContext
from ssl_zoo.interop.model_card import file_metadata
from ssl_zoo.interop.target_libraries import RebuildRecipe, timm_recipe, torchvision_recipe
from ssl_zoo.printable import printable

SUFFIXES = dict(
    timm=('.pth', '.pt'),
    torchvision=('.pth', '.pt'),
    safetensors=('.safetensors',),
    onnx=('.onnx',),
)
FORMATS = tuple(SUFFIXES)
READERS = dict(
    timm='timm',
    torchvision='torchvision',
    safetensors='safetensors and timm',
    onnx='onnxruntime',
)
ONNX_PACKAGES = ('onnx', 'onnxscript', 'onnxruntime')
ONNX_LIMIT = 2**31  # bytes: protobuf's limit for one file

Features = Callable[[Tensor], Tensor]  # (B, 3, H, W) float32 -> (B, D)


@dataclass(frozen=True)
class ExportFormat:
    """How a backbone is written and read in one format.

    Attributes:
        write: writes the backbone into an open file.
        read: returns a function images -> features for a file, using the other library alone.
        code: lines of Python for the user that load the file from its folder.
    """

    write: Callable[[BinaryIO], None]
    read: Callable[[Path], Features]
    code: tuple[str, ...]


def first_line(error: Exception) -> str:
    """Return the type of an error and the first line of its text."""
    lines = str(error).splitlines() or ['']
    return printable(f'{type(error).__name__}: {lines[0]}')


def export_format(
    context: EvaluationContext, encoder: nn.Module, format_name: str, file_name: str
) -> ExportFormat:
    """Return how a backbone is written and read in a format.

    Args:
        context: the checkpoint.
        encoder: backbone of the checkpoint, float32 on the CPU, (B, 3, H, W) -> (B, D).
        format_name: one of FORMATS.
        file_name: name of the file, for the code that loads it.
    Raises:
        ConfigError: the format cannot hold this backbone, or a package is not installed.
    """
    if format_name == 'onnx':
        return _onnx(context, encoder, file_name)
    make_recipe = torchvision_recipe if format_name == 'torchvision' else timm_recipe
    recipe = make_recipe(encoder, context.settings.method.get('backbone'))
    state = {key: value.detach().clone() for key, value in encoder.state_dict().items()}
    state = recipe.rename(state)
    if format_name == 'safetensors':
        return _safetensors(state, recipe, file_metadata(context), file_name)
    return _state_dict(state, recipe, file_name)


def _state_dict(state: dict, recipe: RebuildRecipe, file_name: str) -> ExportFormat:
    def write(file: BinaryIO) -> None:
        torch.save(state, file)

    def read(path: Path) -> Features:
        weights = torch.load(path, map_location='cpu', weights_only=True)
        return recipe.load(recipe.build(), weights).eval()

    code = (
        'import torch',
        *recipe.code,
        f'weights = torch.load({file_name!r}, weights_only=True)',
        *recipe.load_code,
    )
    return ExportFormat(write, read, code)


def _safetensors(
    state: dict, recipe: RebuildRecipe, metadata: dict[str, str], file_name: str
) -> ExportFormat:
    from safetensors.torch import load_file, save

    def write(file: BinaryIO) -> None:
        file.write(save(state, dict(metadata, format='pt')))

    def read(path: Path) -> Features:
        return recipe.load(recipe.build(), load_file(path)).eval()

    code = (
        'import torch',
        'from safetensors.torch import load_file',
        *recipe.code,
        f'weights = load_file({file_name!r})',
        *recipe.load_code,
    )
    return ExportFormat(write, read, code)


def _onnx(context: EvaluationContext, encoder: nn.Module, file_name: str) -> ExportFormat:
    _check_onnx_packages()
    size = sum(value.nbytes for value in encoder.state_dict().values())
    if size >= ONNX_LIMIT:
        raise ConfigError(
            f'this backbone has {size / 2**30:.1f} GiB of weights, and an ONNX file holds less '
            'than 2 GiB; use --format timm or safetensors'
        )

    def write(file: BinaryIO) -> None:
        import onnx

        graph = _onnx_program(encoder, context.preprocessing.size).model_proto
        onnx.helper.set_model_props(graph, file_metadata(context))
        file.write(graph.SerializeToString())

    code = (
        'import onnxruntime',
        f'session = onnxruntime.InferenceSession({file_name!r})',
        "features = session.run(['features'], {'images': images.numpy()})[0]     # images: (B, 3, "
        'H, W) float32, any B',
    )
    return ExportFormat(write, _read_onnx, code)


def _check_onnx_packages() -> None:
    missing = [name for name in ONNX_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        verb = 'is' if len(missing) == 1 else 'are'
        raise ConfigError(
            f'--format onnx needs {", ".join(missing)}, which {verb} not installed: '
            f"python -m pip install 'ssl_zoo[export]', or -e '.[export]' in a clone"
        )


def _onnx_program(encoder: nn.Module, size: int) -> torch.onnx.ONNXProgram:
    """Return the graph of a backbone for any number of images of size x size pixels."""
    example = torch.zeros(2, 3, size, size)  # 2, because torch.export takes a 1 for a constant
    try:
        return torch.onnx.export(
            encoder,
            (example,),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
            verbose=False,
            input_names=['images'],
            output_names=['features'],
        )
    except Exception as error:  # the exporter raises errors of many types
        raise ConfigError(
            f"torch's ONNX exporter cannot take this backbone ({first_line(error)}); use --format "
            'timm or '
            f'safetensors'
        ) from None


def _read_onnx(path: Path) -> Features:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=['CPUExecutionProvider'])

    def features(x: Tensor) -> Tensor:
        [values] = session.run(['features'], dict(images=x.numpy()))
        return torch.from_numpy(values)

    return features
