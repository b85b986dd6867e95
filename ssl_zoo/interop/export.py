"""Export a trained backbone for another library, and verify that both compute the same features.

The file is written under a temporary name and read back by the other library's own classes. The
file gets its final name only if the features of real images agree with ssl_zoo's.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor, nn

from ssl_zoo.config.settings import Data
from ssl_zoo.data.sources import Source, Subset, build_source
from ssl_zoo.errors import ConfigError, MissingData, nearest
from ssl_zoo.evaluation.features import Preprocessing, encode_batches
from ssl_zoo.evaluation.protocols.context import EvaluationContext
from ssl_zoo.interop.export_formats import (
    FORMATS,
    READERS,
    SUFFIXES,
    ExportFormat,
    Features,
    export_format,
    first_line,
)
from ssl_zoo.interop.model_card import model_card, preprocessing_code
from ssl_zoo.storage.atomic import atomic_write
from ssl_zoo.storage.digest import sha256_of_file
from ssl_zoo.validation import check_positive

# The largest difference of a feature that is attributed to sums in another order.
TOLERANCE = 1e-4
# Images that are compared at a time, to bound memory. The ONNX graph is traced with another batch
# size, so the comparison also tests that the graph accepts any batch size.
BATCH_SIZE = 16


@dataclass(frozen=True)
class Verification:
    """The comparison of the features of a file that was read back with those of the backbone.

    Attributes:
        difference: largest absolute difference of a feature.
        scale: largest absolute feature of the backbone.
        images: number of images compared.
        source: set of the images, 'test', 'val' or 'train'.
    """

    difference: float
    scale: float
    images: int
    source: str

    def __str__(self) -> str:
        return (
            f'largest difference {self.difference:.2g} over {self.images:,} {self.source} images, '
            f'where the largest feature is {self.scale:.3g}'
        )

    @property
    def tolerance(self) -> float:
        """The largest difference allowed.

        The tolerance is relative to the largest feature if that is below 1, because an absolute
        tolerance would prove little for small features.
        """
        return TOLERANCE * min(1.0, self.scale)

    @property
    def passed(self) -> bool:
        """Whether the difference is a number within the tolerance; nan is not."""
        return self.difference <= self.tolerance


@dataclass(frozen=True)
class ExportedFile:
    """A file whose features have been verified.

    Attributes:
        verification: the comparison that the file passed.
        sha256: SHA-256 of the file.
        card: text of the model card; None for a format without a card.
    """

    verification: Verification
    sha256: str
    card: bytes | None


def export(
    context: EvaluationContext, format_name: str, out: str, images: int = 64
) -> Verification:
    """Write the backbone of a checkpoint in another library's format and print how to load it.

    Features are compared in float32 on the CPU.

    Args:
        context: the checkpoint, and the network to export.
        format_name: one of FORMATS. 'safetensors' (with timm's names) also writes a model card,
            README.md, beside the file.
        out: the file to write. Neither the file nor the card may exist.
        images: number of images to compare, from the test set of the run; from the validation set
            if there is no test set; else from the training set.
    Returns:
        The comparison that the file passed.
    Raises:
        ConfigError: the format cannot hold this network, a package or the images are missing, the
            features differ by more than Verification.tolerance, or a file cannot be written.
    """
    if format_name not in FORMATS:
        raise ConfigError(f'the format is {format_name!r}: {nearest(format_name, FORMATS)}')
    check_positive(images=images)
    path = Path(out)
    card_path = path.with_name('README.md') if format_name == 'safetensors' else None
    _check_paths(format_name, path, card_path)
    encoder = copy.deepcopy(context.encoder)
    encoder = encoder.to('cpu', torch.float32, memory_format=torch.contiguous_format).eval()
    exporter = export_format(context, encoder, format_name, path.name)
    source, source_name = _verification_images(context.settings.data, images)
    preprocessing = replace(context.preprocessing, precision='float32', channels_last=False)

    def verify(written: Path) -> Verification:
        result = compare_features(
            encoder, exporter.read, written, source, source_name, preprocessing
        )
        _check_passed(result, format_name)
        return result

    exported = _write_verified(path, context, encoder, exporter, verify, card_path is not None)
    if card_path:  # written after the file that the card describes
        _write_card(card_path, path, exported)
    _print_summary(context, format_name, path, card_path, exported)
    _print_code(exporter, preprocessing)
    return exported.verification


def compare_features(
    encoder: nn.Module,
    read: Callable[[Path], Features],
    path: Path,
    source: Source,
    source_name: str,
    preprocessing: Preprocessing,
) -> Verification:
    """Read a file back and compare its features with the encoder's, image by image.

    Args:
        encoder: (B, 3, H, W) float32 -> (B, D).
        read: returns the other library's encoder for a file, with the same shapes.
        path: the file.
        source: the images.
        source_name: name of the images for messages.
        preprocessing: what happens to an image before the encoder.
    Raises:
        ConfigError: the other library cannot read or run the file, no image can be read, or all
            features are 0, so that equal features would prove nothing.
    """
    try:
        other = read(path)
    except Exception as error:  # every library raises its own types
        raise ConfigError(
            f'not exported: the file cannot be read back ({first_line(error)})'
        ) from None
    differences = []
    scales = []
    n = 0
    pairs = _both_features(encoder, other)
    batches = encode_batches(pairs, source, preprocessing, torch.device('cpu'), BATCH_SIZE)
    for positions, values, _ in batches:
        if values is not None:
            differences.append(np.abs(values[:, 0] - values[:, 1]).max())
            scales.append(np.abs(values[:, 0]).max())
            n += len(positions)
    if not n:
        raise ConfigError(
            f'none of the {len(source)} {source_name} images can be read, and the comparison needs '
            f'some; {_give_other_images()}'
        )
    scale = float(np.max(scales))
    if scale == 0:
        raise ConfigError(
            f'not exported: all features of {n} {source_name} images are 0, so that nothing can be '
            'verified with them'
        )
    return Verification(float(np.max(differences)), scale, n, source_name)


def _both_features(encoder: nn.Module, other: Features) -> Features:
    """Return a function (B, 3, H, W) -> (B, 2, D): features of the encoder and of ``other``."""

    def features(x: Tensor) -> Tensor:
        expected = encoder(x)
        try:
            actual = other(x)
        except Exception as error:  # every library raises its own types
            raise ConfigError(
                f'not exported: the network that was read back cannot be run ({first_line(error)})'
            ) from None
        if actual.shape != expected.shape:
            raise ConfigError(
                f'not exported: the network that was read back gives {tuple(actual.shape)} for '
                f'{len(x)} images, and the backbone {tuple(expected.shape)}'
            )
        return torch.stack([expected, actual], dim=1)

    return features


def _check_passed(verification: Verification, format_name: str) -> None:
    if verification.passed:
        return
    others = ', '.join(other for other in FORMATS if other != format_name)
    raise ConfigError(
        f'not exported: read back by {READERS[format_name]}, the features differ ({verification}), '
        f'more than the {verification.tolerance:.2g} allowed; use another format ({others})'
    )


def _check_paths(format_name: str, path: Path, card_path: Path | None) -> None:
    if path.suffix not in SUFFIXES[format_name]:
        raise ConfigError(
            f'--out is {path}, but a file for {format_name} ends in '
            f'{" or ".join(SUFFIXES[format_name])}'
        )
    for each in (path, card_path):
        if each and each.exists():
            raise ConfigError(
                f'{each} exists already and is not overwritten; remove it, or choose another --out'
            )


def _verification_images(data: Data, images: int) -> tuple[Source, str]:
    """Return evenly spaced images of the test, validation or training set, and the set's name."""
    names = [name for name in ('test', 'val', 'train') if isinstance(getattr(data, name), dict)]
    name = names[0]
    try:
        source = build_source(getattr(data, name), data.max_pixels)
    except MissingData as error:
        raise ConfigError(
            f'the exported file is verified on images, and data.{name} is not on this machine '
            f'({error}); {_give_other_images()}'
        ) from None
    positions = np.linspace(0, len(source) - 1, min(images, len(source)))
    return Subset(source, np.unique(positions.astype(int))), name


def _give_other_images() -> str:
    return "give others with --cfg-options \"data.test={'type': 'Images', 'root': '/my/photos'}\""


def _write_verified(
    path: Path,
    context: EvaluationContext,
    encoder: nn.Module,
    exporter: ExportFormat,
    verify: Callable[[Path], Verification],
    has_card: bool,
) -> ExportedFile:
    """Write and verify the file under a temporary name, then rename it.

    Raises:
        ConfigError: the file cannot be written or fails the verification; no file is left.
    """
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
        card = None
        if has_card:
            size = written.stat().st_size
            text = model_card(
                context, encoder, path.name, size, sha256, exporter.code, str(verification)
            )
            card = text.encode(errors='replace')
        results.append(ExportedFile(verification, sha256, card))

    try:
        atomic_write(path, write)
    except OSError as error:
        raise ConfigError(
            f'could not write {path}: {error}; free some space, or choose another --out'
        ) from None
    return results[0]


def _write_card(card_path: Path, path: Path, exported: ExportedFile) -> None:
    try:
        atomic_write(card_path, lambda file: file.write(exported.card))
    except OSError as error:
        raise ConfigError(
            f'{path} is written and verified, sha256 {exported.sha256}, but its model card '
            f'{card_path} could not be written: {error}; to have both, free some space, remove '
            f'{path.name} and export it again'
        ) from None


def _print_summary(
    context: EvaluationContext,
    format_name: str,
    path: Path,
    card_path: Path | None,
    exported: ExportedFile,
) -> None:
    first = f'{path}: {path.stat().st_size / 2**20:.1f} MiB, sha256 {exported.sha256}'
    if card_path:
        first += f'; model card in {card_path}'
    method = context.settings.method['type']
    print(first)
    print(f'  {method}, {context.network} backbone of step {context.step:,}')
    print(f'  read back by {READERS[format_name]}: {exported.verification}')


def _print_code(exporter: ExportFormat, preprocessing: Preprocessing) -> None:
    """Print code that loads the file, and code that prepares images, indented by four spaces."""
    print('to load it:')
    for line in exporter.code:
        print(f'    {line}')
    print('its images:')
    for line in preprocessing_code(preprocessing):
        print(f'    {line}')
    print(end='', flush=True)
