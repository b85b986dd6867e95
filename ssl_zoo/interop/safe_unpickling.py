"""Foreign files of tensors, read without running anything that is in them.

PyTorch's and DeepMind's checkpoints are pickles, and a pickle is a program: it names functions and calls them. torch.load with
weights_only=True refuses every published checkpoint that holds a class of its authors (argparse.Namespace, omegaconf's and
Lightning's dicts, mmengine's history), though its tensors are plain. The reader here looks up nothing that a pickle names: the few
names that tensors and arrays are made of stand for functions of this file, which only take notes, and every other name for one
inert class. Numbers are read afterwards from the notes of what is wanted, with their types and sizes checked.

The formats: torch/serialization.py and torch/_utils.py (pytorch/pytorch), numpy's ndarray.__reduce__, jax's _reconstruct_array
(jax/_src/array.py), safetensors' README.
"""

import math
import pickle
import struct
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ssl_zoo.errors import ConfigError

LEGACY = 0x1950A86A20F9469CFC6C  # the first object of torch's files of before 1.6
DTYPES = {
    f'{name}Storage': dtype
    for name, dtype in dict(
        Double=torch.float64,
        Float=torch.float32,
        Half=torch.float16,
        BFloat16=torch.bfloat16,
        Long=torch.int64,
        Int=torch.int32,
        Short=torch.int16,
        Char=torch.int8,
        Byte=torch.uint8,
        Bool=torch.bool,
    ).items()
}
ARRAY_CODES = {
    f'{kind}{size}'
    for kind, sizes in (('f', (2, 4, 8)), ('i', (1, 2, 4, 8)), ('u', (1, 2, 4, 8)), ('b', (1,)))
    for size in sizes
}


class Inert(dict):
    """What an object of any class is read as: it keeps what it was made from, as a mapping, ``args`` and ``state``, and does nothing."""

    __slots__ = ('args', 'state')
    __hash__, __eq__ = object.__hash__, object.__eq__  # it may be a key

    def __new__(cls, *args, **kwargs):
        self = super().__new__(cls)
        self.args, self.state = args, None
        return self

    def __init__(self, *args, **kwargs):
        super().__init__()

    def __setstate__(self, state):
        self.state = state

    def __call__(self, *args, **kwargs):
        return Inert(*args)

    def append(self, item):
        pass

    def extend(self, items):
        pass

    def add(self, item):
        pass


@dataclass(frozen=True)
class Storage:
    """Where numbers lie: ``key`` in the file's table, from ``start`` on, ``numel`` of them."""

    dtype: torch.dtype
    key: str
    numel: int
    start: int = 0


class Stored:
    """A tensor or an array in a file, not yet read. ``shape``: its size."""

    __slots__ = ('shape', '_numbers')

    def __init__(self, shape: tuple[int, ...], numbers):
        self.shape, self._numbers = shape, numbers

    def read(self) -> Tensor:
        """Its numbers, a tensor of its own. Raises ConfigError if they are not in the file."""
        try:
            tensor = self._numbers()
        except ConfigError:
            raise
        except Exception as error:  # of torch, zipfile, the system
            _wrong(
                f'a tensor that cannot be read ({type(error).__name__}: {(str(error) or "too short").splitlines()[0]})'
            )
        if not isinstance(tensor, Tensor) or tuple(tensor.shape) != self.shape:
            _wrong('a tensor of another size than it says')
        return tensor


class _Array(Stored):
    """numpy's array: an empty one comes first, ``__setstate__`` has what is in it."""

    __slots__ = ()

    def __init__(self):
        super().__init__((), lambda: _wrong('an array without content'))

    def __setstate__(self, state):
        _, shape, dtype, fortran, raw = state
        shape = _sizes(shape)
        raw = raw.encode('latin1') if isinstance(raw, str) else raw  # of Python 2
        if not isinstance(dtype, _Dtype) or not isinstance(raw, bytes):
            return  # of objects: it stays without content
        if len(raw) != math.prod(shape) * int(dtype.code[1:]):
            _wrong(f'an array of shape {shape} with {len(raw)} bytes')
        values = np.frombuffer(raw, dtype.order + dtype.code)
        self.shape = shape
        self._numbers = lambda: torch.from_numpy(
            values.reshape(shape, order='F' if fortran else 'C').astype(dtype.code)
        )


class _Dtype:
    __slots__ = ('code', 'order')

    def __init__(self, code):
        self.code, self.order = code, '='

    def __setstate__(self, state):
        self.order = state[1] if state[1] in ('<', '>') else '='


def _wrong(what: str):
    raise ConfigError(f'the file holds {what}, which no library writes; fetch it again')


def _sizes(values) -> tuple[int, ...]:
    values = tuple(values)
    if not all(type(value) is int and value >= 0 for value in values):
        _wrong(f'a tensor of size {values}')
    return values


class _Within:
    """A file whose reads cannot ask for more than is left of it: a few bytes of a pickle may claim any length, and memory for it would be
    taken before a byte is read. ``size``: of the file, in bytes."""

    SMALL = 2**16  # is read without asking where the file stands

    def __init__(self, file, size: int):
        self.file, self.size = file, size
        self.readline, self.tell, self.seek = file.readline, file.tell, file.seek

    def read(self, n: int) -> bytes:
        if n > self.SMALL and n > (left := self.size - self.file.tell()):
            _wrong(f'a value of {n:,} bytes where {left:,} are left')
        return self.file.read(n)


class _Reader(pickle._Unpickler):
    """An unpickler for which a name is one of those below, or Inert.

    It is the one written in Python: that in C lets a few bytes ask for any amount of memory, for what it remembers by number.

    Args:
        file: a _Within; storage: function of a Storage that gives its numbers, (N,).
    """

    dispatch = dict(pickle._Unpickler.dispatch)

    def __init__(self, file, storage=None, encoding: str = 'latin1'):
        super().__init__(file, encoding=encoding)
        self.storage, self.dtypes = storage, {}  # by the storages' keys

    def _bytearray(self):
        # Numpy's arrays in protocol 5. pickle's own takes the memory before it reads; this one reads first, and no more than there is.
        self.append(bytearray(self.read(*struct.unpack('<Q', self.read(8)))))

    dispatch[pickle.BYTEARRAY8[0]] = _bytearray

    def find_class(self, module: str, name: str):
        # Functions made for this one file, so that a pickle that writes attributes to them changes nothing else.
        if module.split('.')[0] == 'torch' and name in DTYPES:
            return DTYPES[name]
        if (module, name) in (
            ('torch._utils', '_rebuild_tensor_v2'),
            ('torch._utils', '_rebuild_tensor'),
        ):
            return lambda storage, offset, size, stride, *rest: self._tensor(
                storage, offset, size, stride
            )
        if (module, name) in (
            ('torch._utils', '_rebuild_parameter'),
            ('torch._utils', '_rebuild_parameter_with_state'),
        ):
            return lambda tensor, *rest: tensor
        if (module, name) == ('torch._tensor', '_rebuild_from_type_v2'):
            return lambda function, kind, args, state: function(*args)
        if (module, name) in (
            ('numpy.core.multiarray', '_reconstruct'),
            ('numpy._core.multiarray', '_reconstruct'),
        ):
            return lambda *args: _Array()
        if (module, name) in (
            ('numpy.core.numeric', '_frombuffer'),
            ('numpy._core.numeric', '_frombuffer'),
        ):
            return lambda raw, dtype, shape, order: _filled(
                (1, shape, dtype, order == 'F', bytes(raw))
            )
        if (module, name) == ('numpy', 'dtype'):
            return lambda code, *rest: _Dtype(code) if code in ARRAY_CODES else Inert()
        if (module, name) == ('_codecs', 'encode'):  # how protocol 2 writes bytes
            return lambda text, encoding: (
                str.encode(text, 'latin1')
                if encoding == 'latin1'
                else _wrong('text in another encoding')
            )
        if name == '_reconstruct_array' and module.split('.')[0] in ('jax', 'jaxlib'):
            return lambda function, args, state, *rest: _filled(state)
        if module.split('.')[0] == 'dill' and name.startswith(
            ('_create_', '_load_type', '_get_attr')
        ):
            return lambda *args: Inert  # classes made on the spot, of which objects are then made
        return Inert

    def persistent_load(self, pid):
        if (
            not isinstance(pid, tuple)
            or len(pid) < 5
            or pid[0] != 'storage'
            or not isinstance(pid[1], torch.dtype)
        ):
            _wrong('a storage of an unknown kind')
        view = pid[5] if len(pid) > 5 and pid[5] else (None, 0, None)
        self.dtypes[str(pid[2])] = pid[1]
        return Storage(pid[1], str(pid[2]), *_sizes((pid[4], view[1])))

    def _tensor(self, storage, offset, size, stride) -> Stored:
        if not isinstance(storage, Storage):
            _wrong('a tensor without a storage')
        (offset,), size, stride = _sizes((offset,)), _sizes(size), _sizes(stride)
        if len(size) != len(stride) or math.prod(size) > storage.numel:
            _wrong(f'a tensor of size {size} in a storage of {storage.numel}')
        return Stored(
            size,
            lambda: self.storage(storage).as_strided(size, stride, storage.start + offset).clone(),
        )


def _filled(state) -> _Array:
    array = _Array()
    array.__setstate__(state)
    return array


def _numbers(raw: bytes, storage: Storage) -> Tensor:
    _check_bytes(len(raw), storage)
    return (
        torch.frombuffer(bytearray(raw), dtype=storage.dtype)
        if raw
        else torch.empty(0, dtype=storage.dtype)
    )


def _check_bytes(n: int, storage: Storage) -> None:
    if n != storage.numel * storage.dtype.itemsize:
        _wrong(f'a storage of {storage.numel} numbers in {n} bytes')


def read_foreign(path: str | Path):
    """The content of a file of torch (zip or legacy), of safetensors, or of pickled arrays, with Stored in the place of tensors.

    Nothing in the file is executed: objects of every class are read as Inert. Numbers are read when ``Stored.read`` is called, so
    the file must stay where it is.

    Raises:
        ConfigError: no such file, one of another kind, a torn one.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f'there is no file at {path.absolute()}')
    try:
        with open(path, 'rb') as file:
            start = file.read(9)
        if start.startswith(b'PK\x03\x04'):
            return _read_zip(path)
        if start[8:] == b'{':
            return _read_safetensors(path)
        return _read_pickle(path)
    except ConfigError:
        raise
    except Exception as error:  # unpickling raises any type for a torn or foreign file
        what = (str(error) or 'it is too short').splitlines()[0]
        raise ConfigError(
            f'{path} is not a checkpoint that can be read ({type(error).__name__}: {what}); it must be a file of '
            f'torch.save, of safetensors, or a pickle of arrays'
        ) from None


def _read_zip(path: Path):
    with zipfile.ZipFile(path) as archive:
        names, whole = set(archive.namelist()), path.stat().st_size
        [pickled] = [
            name for name in names if name.count('/') == 1 and name.endswith('/data.pkl')
        ] or [None]
        if pickled is None:
            raise ConfigError(
                f'{path} is a zip archive, but not one of torch.save; unpack it, and give the checkpoint in it'
            )
        folder = pickled.removesuffix('data.pkl')
        if folder + 'constants.pkl' in names:
            raise ConfigError(
                f'{path} is a TorchScript program, whose code would have to run; ask its authors for a state_dict'
            )
        for member in archive.infolist():
            # torch.save stores; what is packed may be a thousand times what it seems, and would be unpacked before anything is checked.
            if (
                member.compress_type != zipfile.ZIP_STORED
                or not member.file_size == member.compress_size <= whole
            ):
                _wrong(f'{member.filename} compressed, or of another size than it says')
        if folder + 'byteorder' in names and (
            archive.getinfo(folder + 'byteorder').file_size > 8
            or archive.read(folder + 'byteorder') != sys.byteorder.encode()
        ):
            raise ConfigError(
                f'{path} was written on a machine of another byte order; save it again on one like this'
            )

        def numbers(storage: Storage) -> Tensor:
            with zipfile.ZipFile(path) as archive:
                name = f'{folder}data/{storage.key}'
                _check_bytes(archive.getinfo(name).file_size, storage)
                return _numbers(archive.read(name), storage)

        with archive.open(pickled) as file:
            return _Reader(_Within(file, archive.getinfo(pickled).file_size), numbers).load()


def _read_pickle(path: Path):
    with open(path, 'rb') as opened:
        places: dict[str, int] = {}
        file = _Within(opened, path.stat().st_size)

        def numbers(storage: Storage) -> Tensor:
            with open(path, 'rb') as opened:
                file = _Within(opened, path.stat().st_size)
                file.seek(places[storage.key])
                return _numbers(file.read(storage.numel * storage.dtype.itemsize), storage)

        first = _Reader(file).load()
        if first != LEGACY:
            return first
        _Reader(file).load()  # the format's version
        if not _Reader(file).load().get('little_endian', True):
            raise ConfigError(
                f'{path} was written on a machine of another byte order; save it again on one like this'
            )
        reader = _Reader(file, numbers)
        content = reader.load()
        for key in _Reader(file).load():  # then the storages: how many numbers, and the numbers
            (numel,) = struct.unpack('<q', file.read(8))
            places[str(key)] = file.tell()
            file.seek(numel * reader.dtypes[str(key)].itemsize, 1)
        return content


def _read_safetensors(path: Path) -> dict:
    from safetensors import safe_open

    def lazily(name):
        def read():
            with safe_open(path, 'pt') as file:
                return file.get_tensor(name)

        return read

    with safe_open(path, 'pt') as file:
        return {
            name: Stored(tuple(file.get_slice(name).get_shape()), lazily(name))
            for name in file.keys()
        }
