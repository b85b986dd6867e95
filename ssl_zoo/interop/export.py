"""Export a trained backbone for another library, and verify that both compute the same features.

The file is written under a temporary name and read back by the other library's own classes. The
file gets its final name only if the features of real images agree with ssl_zoo's.
"""

import copy
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import nn

from ssl_zoo.config.settings import Data
from ssl_zoo.data.sources import Source, Subset, build_source
from ssl_zoo.errors import ConfigError, MissingData, nearest
from ssl_zoo.evaluation.features import Preprocessing
from ssl_zoo.evaluation.protocols.context import EvaluationContext
from ssl_zoo.interop.export_formats import (
    FOLDER_FORMATS,
    FORMATS,
    READERS,
    SUFFIXES,
    ExportFormat,
    export_format,
)
from ssl_zoo.interop.model_card import model_card, preprocessing_code
from ssl_zoo.interop.timm_folder import CONFIG
from ssl_zoo.interop.verification import GIVE_OTHER_IMAGES, Verification, compare_features
from ssl_zoo.printable import first_line, printable
from ssl_zoo.storage.atomic import atomic_write
from ssl_zoo.storage.digest import sha256_of_file
from ssl_zoo.validation import check_positive

CARD = 'README.md'


@dataclass(frozen=True)
class Output:
    """The places of an export.

    Attributes:
        path: the file.
        as_folder: whether the user named the folder of the file, and not the file.
        has_card: whether a model card is written beside the file.
    """

    path: Path
    as_folder: bool
    has_card: bool


@dataclass(frozen=True)
class ExportedFile:
    """A file whose features have been verified.

    Attributes:
        verification: the comparison that the file passed.
        sha256: SHA-256 of the file.
        companions: content of the files that belong beside it, by name.
    """

    verification: Verification
    sha256: str
    companions: dict[str, bytes]


def export(
    context: EvaluationContext,
    format_name: str,
    out: str,
    images: int = 64,
    dynamic_size: bool = False,
) -> Verification:
    """Write the backbone of a checkpoint in another library's format and print how to load it.

    Features are compared in float32 on the CPU.

    Args:
        context: the checkpoint, and the network to export.
        format_name: one of FORMATS. 'safetensors' (with timm's names) also writes a model card,
            README.md, beside the file.
        out: the file to write; for 'safetensors' and 'onnx' also a folder, for the file, its model
            card and (safetensors) timm's config.json. None of these files may exist.
        images: number of images to compare, from the test set of the run; from the validation set
            if there is no test set; else from the training set.
        dynamic_size: whether an ONNX graph takes images of any height and width.
    Returns:
        The comparison that the file passed.
    Raises:
        ConfigError: the format cannot hold this network, a package or the images are missing, the
            features differ by more than Verification.tolerance, or a file cannot be written.
    """
    if format_name not in FORMATS:
        raise ConfigError(f'the format is {format_name!r}: {nearest(format_name, FORMATS)}')
    check_positive(images=images)
    output = _output(format_name, out)
    encoder = copy.deepcopy(context.encoder)
    encoder = encoder.to('cpu', torch.float32, memory_format=torch.contiguous_format).eval()
    exporter = export_format(
        context, encoder, format_name, output.path.name, dynamic_size, output.as_folder
    )
    warnings = [f'warning: {warning}' for warning in context.method.warnings]
    exporter = replace(exporter, notes=(*exporter.notes, *warnings))
    source, source_name = _verification_images(context.settings.data, images)
    preprocessing = replace(context.preprocessing, precision='float32', channels_last=False)

    def verify(written: Path) -> Verification:
        result = compare_features(
            encoder,
            exporter.read,
            written,
            source,
            source_name,
            preprocessing,
            exporter.further_shapes,
        )
        _check_passed(result, format_name)
        return result

    exported = _write_verified(output, context, encoder, exporter, verify)
    _write_companions(output.path, exported)  # after the file that they describe
    _print_summary(context, format_name, output.path, exporter, exported)
    _print_code(exporter, preprocessing)
    return exported.verification


def _check_passed(verification: Verification, format_name: str) -> None:
    if verification.passed:
        return
    others = ', '.join(other for other in FORMATS if other != format_name)
    raise ConfigError(
        f'not exported: read back by {READERS[format_name]}, the features differ ({verification}), '
        f'more than the {verification.tolerance:.2g} allowed; use another format ({others})'
    )


def _output(format_name: str, out: str) -> Output:
    """Return the places that ``--out`` names.

    Raises:
        ConfigError: one of the files exists, or the name is not one of the format.
    """
    path = Path(out)
    suffixes = SUFFIXES[format_name]
    names_folder = out.endswith('/') or not path.suffix or os.path.isdir(out)
    as_folder = names_folder and format_name in FOLDER_FORMATS
    if as_folder:
        if os.path.lexists(path) and not os.path.isdir(path):
            raise ConfigError(f'--out is {path}, which exists already and is no folder')
        path = path / f'model{suffixes[0]}'
    elif path.suffix not in suffixes:
        or_folder = ', or --out names a folder' if format_name in FOLDER_FORMATS else ''
        raise ConfigError(
            f'--out is {path}, but a file for {format_name} ends in {" or ".join(suffixes)}'
            f'{or_folder}'
        )
    names = [path.name]
    has_card = as_folder or format_name == 'safetensors'
    if has_card:
        names.append(CARD)
    if as_folder and format_name == 'safetensors':
        names.append(CONFIG)
    for name in names:
        each = path.with_name(name)
        if os.path.lexists(each):
            raise ConfigError(
                f'{each} exists already and is not overwritten; remove it, or choose another --out'
            )
    return Output(path, as_folder, has_card)


def _verification_images(data: Data, images: int) -> tuple[Source, str]:
    """Return evenly spaced images of the test, validation or training set, and the set's name."""
    names = [name for name in ('test', 'val', 'train') if isinstance(getattr(data, name), dict)]
    name = names[0]
    try:
        source = build_source(getattr(data, name), data.max_pixels)
    except MissingData as error:
        raise ConfigError(
            f'the exported file is verified on images, and data.{name} is not on this machine '
            f'({error}); {GIVE_OTHER_IMAGES}'
        ) from None
    positions = np.linspace(0, len(source) - 1, min(images, len(source)))
    return Subset(source, np.unique(positions.astype(int))), name


def _write_verified(
    output: Output,
    context: EvaluationContext,
    encoder: nn.Module,
    exporter: ExportFormat,
    verify: Callable[[Path], Verification],
) -> ExportedFile:
    """Write and verify the file under a temporary name, then rename it.

    Raises:
        ConfigError: the file cannot be written or fails the verification; no file is left.
    """
    path = output.path
    results = []

    def write(file: BinaryIO) -> None:
        try:
            exporter.write(file)
        except RuntimeError as error:  # torch raises it on a full disk
            raise OSError(first_line(error)) from None
        file.flush()
        written = Path(file.name)
        verification = verify(written)
        sha256 = sha256_of_file(written)
        companions = dict(exporter.companions)
        if output.has_card:
            size = written.stat().st_size
            text = model_card(
                context,
                encoder,
                path.name,
                size,
                sha256,
                exporter.code,
                str(verification),
                exporter.input,
                exporter.notes,
            )
            companions[CARD] = text.encode(errors='replace')
        results.append(ExportedFile(verification, sha256, companions))

    try:
        atomic_write(path, write)
    except OSError as error:
        raise ConfigError(
            f'could not write {path}: {error}; free some space, or choose another --out'
        ) from None
    return results[0]


def _write_companions(path: Path, exported: ExportedFile) -> None:
    written = [path.name]
    for name, content in exported.companions.items():
        try:
            atomic_write(path.with_name(name), lambda file, content=content: file.write(content))
        except OSError as error:
            raise ConfigError(
                f'{path} is written and verified, sha256 {exported.sha256}, but {name} beside it '
                f'could not be written: {error}; to have all files, free some space, remove '
                f'{" and ".join(written)} and export again'
            ) from None
        written.append(name)


def _print_summary(
    context: EvaluationContext,
    format_name: str,
    path: Path,
    exporter: ExportFormat,
    exported: ExportedFile,
) -> None:
    first = f'{path}: {path.stat().st_size / 2**20:.1f} MiB, sha256 {exported.sha256}'
    if CARD in exported.companions:
        first += f'; model card in {path.with_name(CARD)}'
    if CONFIG in exported.companions:
        first += f", timm's config in {path.with_name(CONFIG)}"
    method = context.settings.method['type']
    print(first)
    print(f'  {method}, {context.network} backbone of step {context.step:,}')
    print(f'  read back by {READERS[format_name]}: {exported.verification}')
    print(f'  input: {exporter.input}')
    for note in exporter.notes:
        print(f'  {printable(note)}')


def _print_code(exporter: ExportFormat, preprocessing: Preprocessing) -> None:
    """Print code that loads the file, and code that prepares images, indented by four spaces."""
    print('to load it:')
    for line in exporter.code:
        print(f'    {line}')
    print('its images:')
    for line in preprocessing_code(preprocessing):
        print(f'    {line}')
    print(end='', flush=True)
