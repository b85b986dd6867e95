"""Read a file of torch.save as data: tensors and plain values, bounded by the size of the file.

torch.load with ``weights_only=True`` runs nothing that is in a file, but a small file can still
claim a large content. Which claim each rule stops:

- ``_check_members``: a compressed member expands to a thousand times its size; members that overlap
  are read several times. torch.save does neither.
- ``_check_members``: torch.load reads a file that does not begin as an archive in an older format,
  although an archive may follow.
- ``_check_pickle``: tuples that share their items are a key of a dict, whose hash visits every item
  as often as it occurs; ``bytearray``, which torch allows, makes any number of bytes.
- ``_Walk``: a list that holds itself, or lists that share their items, have more values than can
  ever be visited; a tensor of stride 0 has more numbers than its storage; many tensors share one
  storage, or many texts are one text.
"""

import pickletools
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

MOST_VALUES = 2_000_000  # a ResNet-200 with its target network and optimizer has below 20,000
DEEPEST = 64  # lists and dicts inside each other
# Bytes of tensors and texts, each as often as it occurs, per byte of the file: a method may hold
# one tensor under several names.
MOST_BYTES_PER_BYTE = 8
LARGEST_INTEGER = 10**30
ARCHIVE_START = b'PK\x03\x04'
# What torch.save names in the pickle of tensors and plain values, beside storages and dtypes.
NAMES = {
    'collections OrderedDict',
    'torch Size',
    'torch.storage UntypedStorage',
    'torch._utils _rebuild_tensor_v2',
    'torch._utils _rebuild_tensor_v3',
    'torch._utils _rebuild_parameter',
    '__builtin__ set',
    'builtins set',
}


def read_tensor_file(path: str | Path) -> Any:
    """Read a file of torch.save to the CPU. Nothing in the file is executed.

    Returns:
        Tensors, numbers, truth values, texts and None in dicts, lists, tuples and sets.

    Raises:
        OSError: the file cannot be read.
        Exception: torch's error for a file that is cut short, damaged or foreign.
        ValueError: the content has values of other types, or is larger than the file can hold.
    """
    size = Path(path).stat().st_size
    _check_members(path, size)
    content = torch.load(path, map_location='cpu', weights_only=True)
    _Walk(MOST_BYTES_PER_BYTE * size).visit(content, 0)
    return content


def _check_members(path: str | Path, size: int) -> None:
    with open(path, 'rb') as file:
        if file.read(len(ARCHIVE_START)) != ARCHIVE_START:
            raise zipfile.BadZipFile('it does not begin as an archive of torch.save')
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        _check_sizes(members, size)
        for member in members:
            if member.filename.endswith('data.pkl'):
                _check_pickle(archive.read(member))


def _check_sizes(members: list[zipfile.ZipInfo], size: int) -> None:
    for member in members:
        if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
            raise ValueError(
                f'{member.filename!a} in it is compressed, which torch.save never does'
            )
    if sum(member.file_size for member in members) > size:
        raise ValueError('its members are larger than the file')


def _check_pickle(data: bytes) -> None:
    """Refuse foreign names, and values with too many items to be hashed, before torch reads them.

    The opcodes are followed with the number of items in place of each value. Of lists and dicts,
    which grow later and have no hash, the numbers are too small.
    """
    stack: list[int] = []
    marks: list[int] = []
    memo: dict[int, int] = {}
    for opcode, argument, _ in pickletools.genops(data):
        _check_name(opcode.name, argument)
        if opcode.name == 'MARK':
            marks.append(len(stack))
        elif opcode.name in ('GET', 'BINGET', 'LONG_BINGET'):
            stack.append(memo.get(argument, 1))
        elif opcode.name in ('PUT', 'BINPUT', 'LONG_BINPUT', 'MEMOIZE'):
            memo[len(memo) if argument is None else int(argument)] = stack[-1] if stack else 1
        else:
            takes = opcode.stack_before
            start = len(stack) - len(takes)
            if pickletools.markobject in takes:
                start = (marks.pop() if marks else 0) - takes.index(pickletools.markobject)
            items = sum(stack[max(start, 0) :]) + 1
            if items > MOST_VALUES:
                raise ValueError(f'it has more than {MOST_VALUES:,} values')
            del stack[max(start, 0) :]
            stack += [items] * len(opcode.stack_after)


def _check_name(opcode: str, argument: Any) -> None:
    if opcode in ('STACK_GLOBAL', 'INST', 'EXT1', 'EXT2', 'EXT4'):
        raise ValueError(f'it has the pickle instruction {opcode}, which torch.save does not write')
    if opcode != 'GLOBAL' or argument in NAMES:
        return
    module, _, name = argument.partition(' ')
    is_storage = module == 'torch' and name.endswith('Storage')
    is_dtype = module == 'torch' and isinstance(getattr(torch, name, None), torch.dtype)
    if not is_storage and not is_dtype:
        raise ValueError(f'it names {argument.replace(" ", ".")!a}, which is no tensor or value')


class _Walk:
    """Visits every value of a content, and ends as soon as there are more than a file can hold.

    Args:
        most_bytes: largest sum of the bytes of all tensors and texts.
    """

    def __init__(self, most_bytes: int):
        self.most_bytes = most_bytes
        self.values_left = MOST_VALUES
        self.bytes_left = most_bytes

    def visit(self, value: Any, depth: int) -> None:
        self.values_left -= 1
        if self.values_left < 0:
            raise ValueError(f'it has more than {MOST_VALUES:,} values')
        if depth > DEEPEST:
            raise ValueError(f'it has lists inside lists, more than {DEEPEST} deep')
        if isinstance(value, Tensor):
            self._visit_tensor(value)
        elif isinstance(value, dict):
            self._visit_dict(value, depth)
        elif isinstance(value, (list, tuple, set)):
            for item in value:
                self.visit(item, depth + 1)
        elif isinstance(value, str):
            self._count_bytes(len(value))
        elif isinstance(value, int):  # also True and False
            if abs(value) > LARGEST_INTEGER:
                raise ValueError(f'it has a whole number beyond {LARGEST_INTEGER:.0e}')
        elif value is not None and not isinstance(value, float):
            raise ValueError(f'it has a value of type {type(value).__name__}')

    def _visit_dict(self, value: dict, depth: int) -> None:
        # An OrderedDict of a state_dict has the attribute _metadata; others could hide its methods.
        attributes = getattr(value, '__dict__', {})
        if attributes.keys() - {'_metadata'}:
            raise ValueError('it has a dict with attributes')
        for part in (value, *attributes.values()):
            if not isinstance(part, dict):
                raise ValueError('it has a dict whose metadata is no dict')
            for key, item in part.items():
                if not isinstance(key, (str, int)):
                    raise ValueError(f'it has a key of type {type(key).__name__}')
                self.visit(key, depth)
                self.visit(item, depth + 1)

    def _visit_tensor(self, value: Tensor) -> None:
        is_plain = (
            type(value) in (Tensor, nn.Parameter)
            and value.layout == torch.strided
            and value.device.type == 'cpu'
            and not value.is_quantized
            and not value.is_complex()
            and not value.is_neg()
        )
        if not is_plain:
            raise ValueError(f'it has a tensor that is not a plain one ({value.dtype})')
        n_bytes = value.numel() * value.element_size()
        if n_bytes > value.untyped_storage().nbytes():
            raise ValueError(f'it has a tensor of {n_bytes:,} bytes whose numbers are not in it')
        self._count_bytes(n_bytes)

    def _count_bytes(self, n_bytes: int) -> None:
        self.bytes_left -= n_bytes
        if self.bytes_left < 0:
            raise ValueError(f'its values fill more than {self.most_bytes:,} bytes')
