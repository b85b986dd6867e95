"""The export formats: write a backbone, read it back with the other library, code for the user."""

import importlib.util
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor, nn

from ssl_zoo.errors import ConfigError
from ssl_zoo.evaluation.features import Preprocessing
from ssl_zoo.evaluation.protocols.context import EvaluationContext
from ssl_zoo.interop.input_shape import (
    check_dynamic_size,
    describe_input,
    other_shape,
    sizes_taken,
)
from ssl_zoo.interop.model_card import file_metadata
from ssl_zoo.interop.target_libraries import RebuildRecipe, timm_recipe, torchvision_recipe
from ssl_zoo.interop.timm_folder import CONFIG, load_from_timm_folder, timm_config
from ssl_zoo.printable import first_line

SUFFIXES = dict(
    timm=('.pth', '.pt'),
    torchvision=('.pth', '.pt'),
    safetensors=('.safetensors',),
    onnx=('.onnx',),
)
FORMATS = tuple(SUFFIXES)
FOLDER_FORMATS = ('safetensors', 'onnx')  # --out may be a folder for model.safetensors, model.onnx
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
        input: the images that the network takes, with the dimensions that are fixed.
        further_shapes: heights and widths of images that must give equal features, too.
        companions: further files for the folder of the file, by name.
        notes: sentences for the user about the file.
    """

    write: Callable[[BinaryIO], None]
    read: Callable[[Path], Features]
    code: tuple[str, ...]
    input: str
    further_shapes: tuple[tuple[int, int], ...] = ()
    companions: dict[str, bytes] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def export_format(
    context: EvaluationContext,
    encoder: nn.Module,
    format_name: str,
    file_name: str,
    dynamic_size: bool = False,
    as_folder: bool = False,
) -> ExportFormat:
    """Return how a backbone is written and read in a format.

    Args:
        context: the checkpoint.
        encoder: backbone of the checkpoint, float32 on the CPU, (B, 3, H, W) -> (B, D).
        format_name: one of FORMATS.
        file_name: name of the file, for the code that loads it.
        dynamic_size: whether the graph of an ONNX file takes images of any height and width.
        as_folder: whether the user asked for a folder, which timm can load.
    Raises:
        ConfigError: the format cannot hold this backbone, or a package is not installed.
    """
    if format_name == 'onnx':
        return _onnx(context, encoder, file_name, dynamic_size)
    if dynamic_size:
        raise ConfigError(
            f'--dynamic-size is for --format onnx, which holds a graph; a file for {format_name} '
            'holds weights alone and fixes no size; leave it out'
        )
    make_recipe = torchvision_recipe if format_name == 'torchvision' else timm_recipe
    recipe = make_recipe(encoder, context.settings.method.get('backbone'))
    state = {key: value.detach().clone() for key, value in encoder.state_dict().items()}
    state = recipe.rename(state)
    size = context.preprocessing.size
    input_text = describe_input(size, sizes_taken(encoder, size))
    if format_name != 'safetensors':
        return _state_dict(state, recipe, file_name, input_text)
    exporter = _safetensors(
        state, recipe, file_metadata(context, input_text), file_name, input_text
    )
    if as_folder:
        name = context.settings.method['backbone']['name']
        return _timm_folder(exporter, encoder, recipe, name, context.preprocessing)
    return exporter


def _state_dict(
    state: dict, recipe: RebuildRecipe, file_name: str, input_text: str
) -> ExportFormat:
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
    return ExportFormat(write, read, code, input_text)


def _safetensors(
    state: dict, recipe: RebuildRecipe, metadata: dict[str, str], file_name: str, input_text: str
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
    return ExportFormat(write, read, code, input_text)


def _timm_folder(
    exporter: ExportFormat,
    encoder: nn.Module,
    recipe: RebuildRecipe,
    name: str,
    preprocessing: Preprocessing,
) -> ExportFormat:
    """Add config.json to a file of weights, if timm's arguments can say what the network is."""
    if recipe.arguments is None:
        note = (
            f'without {CONFIG}: timm.create_model alone cannot build {recipe.beyond_timm}, so that '
            "'local-dir:' does not load this folder; the lines below do"
        )
        return replace(exporter, notes=(note,))
    config = timm_config(encoder, name, recipe.arguments, preprocessing)
    code = (
        'import timm',
        "# '.' is this folder; from the Hugging Face Hub: 'hf-hub:USER/NAME'",
        "model = timm.create_model('local-dir:.', pretrained=True, num_classes=0).eval()",
    )
    text = json.dumps(config, indent=2) + '\n'
    return replace(
        exporter,
        read=lambda path: load_from_timm_folder(path, config),
        code=code,
        companions={CONFIG: text.encode()},
    )


def _onnx(
    context: EvaluationContext, encoder: nn.Module, file_name: str, dynamic_size: bool
) -> ExportFormat:
    _check_onnx_packages()
    n_bytes = sum(value.nbytes for value in encoder.state_dict().values())
    if n_bytes >= ONNX_LIMIT:
        raise ConfigError(
            f'this backbone has {n_bytes / 2**30:.1f} GiB of weights, and an ONNX file holds less '
            'than 2 GiB; use --format timm or safetensors'
        )
    size = context.preprocessing.size
    if dynamic_size:
        check_dynamic_size(encoder, size)
    input_text = describe_input(size, 'any' if dynamic_size else 'one')

    def write(file: BinaryIO) -> None:
        import onnx

        graph = _onnx_program(encoder, size, dynamic_size).model_proto
        onnx.helper.set_model_props(graph, file_metadata(context, input_text))
        file.write(graph.SerializeToString())

    shape = '(B, 3, H, W)' if dynamic_size else f'(B, 3, {size}, {size})'
    code = (
        'import onnxruntime',
        f'session = onnxruntime.InferenceSession({file_name!r})',
        "features = session.run(['features'], {'images': images.numpy()})[0]     "
        f'# images: {shape} float32',
    )
    shapes: tuple[tuple[int, int], ...] = ()
    notes: tuple[str, ...] = ()
    if dynamic_size:
        shapes = (other_shape(size),)
        height, width = shapes[0]
        notes = (f'compared at {size} x {size} and at {height} x {width} px',)
    elif sizes_taken(encoder, size) == 'any':
        notes = ('the network takes other sizes, too: --dynamic-size leaves them open',)
    return ExportFormat(write, _read_onnx, code, input_text, shapes, notes=notes)


def _check_onnx_packages() -> None:
    missing = [name for name in ONNX_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        verb = 'is' if len(missing) == 1 else 'are'
        raise ConfigError(
            f'--format onnx needs {", ".join(missing)}, which {verb} not installed: '
            f"python -m pip install 'ssl_zoo[export]', or -e '.[export]' in a clone"
        )


def _onnx_program(encoder: nn.Module, size: int, dynamic_size: bool) -> torch.onnx.ONNXProgram:
    """Return the graph of a backbone for any number of images, of size x size pixels or of any."""
    dynamic = torch.export.Dim.DYNAMIC
    height = size
    width = size
    dimensions = {0: dynamic}
    if dynamic_size:
        height, width = other_shape(size)  # torch.export may take equal sizes for one
        dimensions = {0: dynamic, 2: dynamic, 3: dynamic}
    example = torch.zeros(2, 3, height, width)  # 2, because torch.export takes a 1 for a constant
    try:
        return torch.onnx.export(
            encoder,
            (example,),
            dynamo=True,
            dynamic_shapes=(dimensions,),
            verbose=False,
            input_names=['images'],
            output_names=['features'],
        )
    except Exception as error:  # the exporter raises errors of many types
        advice = 'leave out --dynamic-size, or ' if dynamic_size else ''
        raise ConfigError(
            f"torch's ONNX exporter cannot take this backbone ({first_line(error)}); {advice}use "
            '--format timm or safetensors'
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
