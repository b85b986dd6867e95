"""SHA-256 digests of files, of JSON values, and of nested tensors."""

import hashlib
import json
from pathlib import Path

import torch


def sha256_of_file(path: str | Path) -> str:
    """Digest the bytes of a file: 64 hexadecimal digits. Raises OSError if it cannot be read."""
    with open(path, 'rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


def sha256_of_json(value: object) -> str:
    """Digest the JSON text of a value, with sorted keys: 64 hexadecimal digits.

    A tuple has the digest of the list of its items.
    """
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def sha256_of_tensors(value: object) -> str:
    """Digest tensors and plain values in nested dicts, lists and tuples: 64 hexadecimal digits.

    The digest depends on dtypes, shapes, keys of dicts and their order, but not on devices and
    memory formats.
    """
    sha = hashlib.sha256()
    _update(sha, value)
    return sha.hexdigest()


def _update(sha, value: object) -> None:
    if isinstance(value, torch.Tensor):
        sha.update(f'{value.dtype}{tuple(value.shape)}'.encode())
        sha.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    elif isinstance(value, dict):
        for key, item in value.items():
            sha.update(f'{key!r}:'.encode())
            _update(sha, item)
    elif isinstance(value, (list, tuple)):
        sha.update(f'[{len(value)}'.encode())
        for item in value:
            _update(sha, item)
    else:
        sha.update(repr(value).encode())
