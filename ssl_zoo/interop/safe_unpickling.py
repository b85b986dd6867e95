"""Read tensors from foreign files without running any code that is in the files.

PyTorch's checkpoints and DeepMind's are pickles, and a pickle is a program: it names functions and
calls them. torch.load with weights_only=True refuses every published checkpoint that holds a class
of its authors (argparse.Namespace, the dicts of omegaconf and Lightning, mmengine's history),
although the tensors in the checkpoint are plain. The reader of this module imports nothing that a
pickle names:

- The few names that rebuild tensors and arrays are replaced by functions of this module. These
  functions record the location of the numbers in the file.
- Every other name is replaced by ``InertObject``, which stores its arguments and does nothing.
- Numbers are read later, only for the tensors that are needed, after their types and sizes have
  been checked.

Which attack each rule stops:

- ``_ForeignUnpickler.find_class``: a pickle that names os.system, eval or any other function gets
  ``InertObject`` in its place, so that no code runs; a pickle that assigns attributes to a function
  or class changes an object made for this file alone.
- ``_check_hash``: tuples that share their items are a key, whose hash takes years.
- ``_BoundedFile``: a few bytes of a pickle claim a value of terabytes, to exhaust the memory before
  a byte is read.
- ``_ForeignUnpickler`` derives from the unpickler written in Python: the unpickler in C allocates a
  table as long as the largest memo number in the file.
- ``_ForeignUnpickler._bytearray``: the base class allocates a bytearray of the claimed length
  before it reads.
- ``_check_members``: a compressed zip member expands to a thousand times its size.
- ``_sizes``, ``_check_storage_size`` and ``LazyTensor.read``: a tensor claims a size or an offset
  beyond its storage, to read memory that is not its own; a storage claims more numbers than the
  file has bytes for.

Formats: torch/serialization.py and torch/_utils.py (pytorch/pytorch), numpy's ndarray.__reduce__,
jax's _reconstruct_array (jax/_src/array.py), safetensors' README.
"""

import math
import pickle
import struct
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, ClassVar, NoReturn

import numpy as np
import torch
from torch import Tensor

from ssl_zoo.errors import ConfigError

LEGACY_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C  # first object of a file that torch before 1.6 wrote
STORAGE_DTYPES = {
    'DoubleStorage': torch.float64,
    'FloatStorage': torch.float32,
    'HalfStorage': torch.float16,
    'BFloat16Storage': torch.bfloat16,
    'LongStorage': torch.int64,
    'IntStorage': torch.int32,
    'ShortStorage': torch.int16,
    'CharStorage': torch.int8,
    'ByteStorage': torch.uint8,
    'BoolStorage': torch.bool,
}
# numpy's codes of the number types that are read: kind and bytes. Object arrays ('O') hold pickled
# objects and are not read.
ARRAY_TYPES = frozenset('f2 f4 f8 i1 i2 i4 i8 u1 u2 u4 u8 b1'.split())

MOST_ITEMS_OF_A_KEY = 1000  # of nested tuples; keys are names and numbers

# Names in a pickle that are replaced by functions of this module, each (module, name).
REBUILD_TENSOR = {
    ('torch._utils', '_rebuild_tensor'),
    ('torch._utils', '_rebuild_tensor_v2'),
}
REBUILD_PARAMETER = {
    ('torch._utils', '_rebuild_parameter'),
    ('torch._utils', '_rebuild_parameter_with_state'),
}
REBUILD_FROM_TYPE = {('torch._tensor', '_rebuild_from_type_v2')}
RECONSTRUCT_ARRAY = {
    ('numpy.core.multiarray', '_reconstruct'),
    ('numpy._core.multiarray', '_reconstruct'),
}
ARRAY_FROM_BUFFER = {
    ('numpy.core.numeric', '_frombuffer'),
    ('numpy._core.numeric', '_frombuffer'),
}
ARRAY_DTYPE = {('numpy', 'dtype')}
ENCODE_TEXT = {('_codecs', 'encode')}


class InertObject(dict):
    """Replaces an object of any class in a pickle: stores its arguments and state, runs nothing.

    An InertObject is a mapping, because many classes in checkpoints are mappings. It holds the
    items that the pickle sets.

    Attributes:
        args: arguments of the constructor or of the function that made the object.
        state: the argument of ``__setstate__`` in the pickle; None without a call.
    """

    args: tuple
    state: Any
    __slots__ = ('args', 'state')
    # Hash and equality by identity, because a pickle may use the object as a key of a dict.
    __hash__ = object.__hash__  # type: ignore[assignment]
    __eq__ = object.__eq__

    def __new__(cls, *args: Any, **kwargs: Any):
        self = super().__new__(cls)
        self.args = args
        self.state = None
        return self

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __call__(self, *args: Any, **kwargs: Any) -> 'InertObject':
        return InertObject(*args)

    def append(self, item: Any) -> None:
        pass

    def extend(self, items: Any) -> None:
        pass

    def add(self, item: Any) -> None:
        pass


@dataclass(frozen=True)
class Storage:
    """Location of numbers in a file.

    Attributes:
        dtype: type of the numbers.
        key: name of the storage in the file.
        numel: number of its elements.
        start: position of the first element in the underlying storage, for a view of a storage.
    """

    dtype: torch.dtype
    key: str
    numel: int
    start: int = 0


class LazyTensor:
    """A tensor or array in a file; its numbers have not been read yet.

    Args:
        shape: size of each dimension.
        load: function without arguments that reads the numbers and returns a tensor of this shape.
    """

    __slots__ = ('shape', '_load')

    def __init__(self, shape: tuple[int, ...], load: Callable[[], Tensor]):
        self.shape = shape
        self._load = load

    def read(self) -> Tensor:
        """Return the numbers as a new tensor of ``shape``.

        Raises:
            ConfigError: the file does not have these numbers, or too many or too few.
        """
        try:
            tensor = self._load()
        except ConfigError:
            raise
        except Exception as error:  # torch, zipfile and the system raise many types
            reason = (str(error) or 'too short').splitlines()[0]
            _refuse(f'a tensor that cannot be read ({type(error).__name__}: {reason})')
        if not isinstance(tensor, Tensor) or tuple(tensor.shape) != self.shape:
            _refuse('a tensor of another size than it claims')
        return tensor


class _LazyArray(LazyTensor):
    """Replaces numpy's array: a pickle makes an empty array, then calls its ``__setstate__``."""

    __slots__ = ()

    def __init__(self):
        super().__init__((), lambda: _refuse('an array without content'))

    def __setstate__(self, state):
        _, shape, dtype, fortran_order, raw = state
        shape = _sizes(shape)
        if isinstance(raw, str):
            raw = raw.encode('latin1')  # a pickle of Python 2 holds bytes as text
        if not isinstance(dtype, _ArrayType) or not isinstance(raw, bytes):
            return  # an array of objects stays without content
        if len(raw) != math.prod(shape) * int(dtype.code[1:]):
            _refuse(f'an array of shape {shape} with {len(raw)} bytes')
        values = np.frombuffer(raw, dtype.byte_order + dtype.code)
        order: Any = 'F' if fortran_order else 'C'
        self.shape = shape
        self._load = lambda: torch.from_numpy(
            values.reshape(shape, order=order).astype(dtype.code)  # to this machine's byte order
        )


class _ArrayType:
    """Replaces numpy's dtype.

    Attributes:
        code: one of ARRAY_TYPES.
        byte_order: '<', '>' or '=' (this machine's).
    """

    __slots__ = ('code', 'byte_order')

    def __init__(self, code: str):
        self.code = code
        self.byte_order = '='

    def __setstate__(self, state):
        self.byte_order = state[1] if state[1] in ('<', '>') else '='


def _refuse(content: str) -> NoReturn:
    raise ConfigError(f'the file holds {content}, which no library writes; download it again')


def _sizes(values) -> tuple[int, ...]:
    """Return the values as a tuple. Raises ConfigError unless all are whole numbers, at least 0."""
    values = tuple(values)
    if not all(type(value) is int and value >= 0 for value in values):
        _refuse(f'a tensor of size {values}')
    return values


def _check_storage_size(n_bytes: int, storage: Storage) -> None:
    if n_bytes != storage.numel * storage.dtype.itemsize:
        _refuse(f'a storage of {storage.numel} numbers in {n_bytes} bytes')


def _to_tensor(raw: bytes, storage: Storage) -> Tensor:
    """Return the bytes of a storage as a tensor, (N,), in the storage's dtype."""
    _check_storage_size(len(raw), storage)
    if not raw:
        return torch.empty(0, dtype=storage.dtype)  # torch.frombuffer refuses an empty buffer
    return torch.frombuffer(bytearray(raw), dtype=storage.dtype)


def _check_hash(key: Any) -> None:
    """Refuse a key of a dict or an item of a set that has too many items to be hashed.

    The hash of a tuple visits an item as often as the item occurs, and tuples may share their
    items.
    """
    left = MOST_ITEMS_OF_A_KEY
    waiting = [key]
    while waiting:
        value = waiting.pop()
        if isinstance(value, tuple):
            left -= len(value)
            if left < 0:
                _refuse(f'a key of more than {MOST_ITEMS_OF_A_KEY:,} items')
            waiting += value


def _filled_array(state) -> _LazyArray:
    array = _LazyArray()
    array.__setstate__(state)
    return array


class _BoundedFile:
    """A file that refuses to read more bytes than are left in it.

    A few bytes of a pickle may claim a value of any length, and the memory for the value would be
    allocated before a byte is read.

    Args:
        file: the open file.
        size: length of the file in bytes.
    """

    SMALL = 2**16  # short reads are not checked, because asking for the file position costs time

    def __init__(self, file: IO[bytes], size: int):
        self.file = file
        self.size = size
        self.readline = file.readline
        self.tell = file.tell
        self.seek = file.seek

    def read(self, n: int) -> bytes:
        if n > self.SMALL:
            left = self.size - self.file.tell()
            if n > left:
                _refuse(f'a value of {n:,} bytes where {left:,} are left')
        return self.file.read(n)


class _ForeignUnpickler(pickle._Unpickler):
    """An unpickler that replaces every name by a function of this module or by InertObject.

    The base class is the unpickler written in Python. A few bytes can make the unpickler in C
    allocate any amount of memory, because its table of memoised objects is as long as the largest
    memo number in the pickle.

    Args:
        file: the pickle.
        read_storage: function that reads the numbers of a storage, (N,).
    """

    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)
    # The base class sets these attributes in load().
    read: Callable[[int], bytes]
    append: Callable[[object], None]
    stack: list[Any]

    def __init__(self, file: _BoundedFile, read_storage: Callable[[Storage], Tensor] | None = None):
        super().__init__(file, encoding='latin1')
        self.read_storage = read_storage
        self.storage_dtypes: dict[str, torch.dtype] = {}

    def _bytearray(self):
        # numpy writes arrays as bytearrays in protocol 5. The method of the base class allocates
        # the claimed length before it reads. This method reads first, and _BoundedFile refuses to
        # read more bytes than the file has.
        (length,) = struct.unpack('<Q', self.read(8))
        self.append(bytearray(self.read(length)))

    dispatch[pickle.BYTEARRAY8[0]] = _bytearray

    def _setitem(self):
        _check_hash(self.stack[-2])
        super().load_setitem()

    dispatch[pickle.SETITEM[0]] = _setitem

    def _setitems(self):
        for key in self.stack[::2]:  # the items since the mark
            _check_hash(key)
        super().load_setitems()

    dispatch[pickle.SETITEMS[0]] = _setitems

    def _dict(self):
        for key in self.stack[::2]:
            _check_hash(key)
        super().load_dict()

    dispatch[pickle.DICT[0]] = _dict

    def _additems(self):
        for item in self.stack:
            _check_hash(item)
        super().load_additems()

    dispatch[pickle.ADDITEMS[0]] = _additems

    def _frozenset(self):
        for item in self.stack:
            _check_hash(item)
        super().load_frozenset()

    dispatch[pickle.FROZENSET[0]] = _frozenset

    def find_class(self, module: str, name: str):
        """Return the replacement of ``module.name``.

        Functions are made anew for every file, so attributes that a pickle sets on a function do
        not affect other files.
        """
        package = module.split('.')[0]
        full_name = (module, name)
        if package == 'torch' and name in STORAGE_DTYPES:
            return STORAGE_DTYPES[name]
        if full_name in REBUILD_TENSOR:
            return lambda storage, offset, size, stride, *rest: self._rebuild_tensor(
                storage, offset, size, stride
            )
        if full_name in REBUILD_PARAMETER:
            return lambda tensor, *rest: tensor
        if full_name in REBUILD_FROM_TYPE:
            return lambda function, kind, args, state: function(*args)
        if full_name in RECONSTRUCT_ARRAY:
            return lambda *args: _LazyArray()
        if full_name in ARRAY_FROM_BUFFER:
            return lambda raw, dtype, shape, order: _filled_array(
                (1, shape, dtype, order == 'F', bytes(raw))
            )
        if full_name in ARRAY_DTYPE:
            return lambda code, *rest: _ArrayType(code) if code in ARRAY_TYPES else InertObject()
        if full_name in ENCODE_TEXT:
            return lambda text, encoding: _encode(text, encoding)
        if package in ('jax', 'jaxlib') and name == '_reconstruct_array':
            return lambda function, args, state, *rest: _filled_array(state)
        if package == 'dill' and name.startswith(('_create_', '_load_type', '_get_attr')):
            return lambda *args: InertObject  # dill makes a class, then objects of the class
        return InertObject

    def persistent_load(self, pid) -> Storage:
        """Return the storage of a tensor.

        Args:
            pid: ('storage', dtype, key, device, number of elements, view metadata).
        """
        if not isinstance(pid, tuple) or len(pid) < 5:
            _refuse('a storage of an unknown kind')
        kind, dtype, key, _, numel = pid[:5]
        if kind != 'storage' or not isinstance(dtype, torch.dtype):
            _refuse('a storage of an unknown kind')
        start = 0
        if len(pid) > 5 and pid[5]:  # a view of a storage: (key, offset, length)
            start = pid[5][1]
        self.storage_dtypes[str(key)] = dtype
        return Storage(dtype, str(key), *_sizes((numel, start)))

    def _rebuild_tensor(self, storage, offset, size, stride) -> LazyTensor:
        if not isinstance(storage, Storage):
            _refuse('a tensor without a storage')
        (offset,) = _sizes((offset,))
        size = _sizes(size)
        stride = _sizes(stride)
        if len(size) != len(stride) or math.prod(size) > storage.numel:
            _refuse(f'a tensor of size {size} in a storage of {storage.numel}')

        def load() -> Tensor:
            numbers = self.read_storage(storage)
            return numbers.as_strided(size, stride, storage.start + offset).clone()

        return LazyTensor(size, load)


def _encode(text: str, encoding: str) -> bytes:
    """Return bytes that protocol 2 has written as text in latin1."""
    if encoding != 'latin1':
        _refuse('text in another encoding')
    return str.encode(text, 'latin1')


def read_foreign(path: str | Path) -> Any:
    """Return the content of another library's file, with a LazyTensor for every tensor and array.

    Nothing in the file is executed: an object of any class is read as an InertObject. Numbers are
    read when ``LazyTensor.read`` is called, so the file must stay where it is.

    Args:
        path: a file of torch.save (a zip, or the format of torch before 1.6), a safetensors file,
            or a pickle of arrays.
    Returns:
        The object that was saved; for safetensors a dict, name -> LazyTensor.
    Raises:
        ConfigError: there is no such file, it is of another kind, or it is damaged.
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
    except Exception as error:  # unpickling raises errors of any type for a damaged or foreign file
        reason = (str(error) or 'it is too short').splitlines()[0]
        raise ConfigError(
            f'{path} is not a checkpoint that can be read ({type(error).__name__}: {reason}); it '
            'must be a file of torch.save, of safetensors, or a pickle of arrays'
        ) from None


def _read_zip(path: Path) -> Any:
    """Return the content of a file of torch.save since torch 1.6.

    Such a file is a zip archive with FOLDER/data.pkl, and FOLDER/data/KEY for each storage.
    """
    with zipfile.ZipFile(path) as archive:
        folder = _archive_folder(archive, path)
        _check_members(archive, path.stat().st_size)
        _check_byte_order(archive, folder, path)

        def read_storage(storage: Storage) -> Tensor:
            with zipfile.ZipFile(path) as archive:
                name = f'{folder}data/{storage.key}'
                # Checked before the member is read, because it may be larger than the memory.
                _check_storage_size(archive.getinfo(name).file_size, storage)
                return _to_tensor(archive.read(name), storage)

        name = f'{folder}data.pkl'
        with archive.open(name) as file:
            bounded = _BoundedFile(file, archive.getinfo(name).file_size)
            return _ForeignUnpickler(bounded, read_storage).load()


def _archive_folder(archive: zipfile.ZipFile, path: Path) -> str:
    """Return the folder of data.pkl, with a slash at the end."""
    names = set(archive.namelist())
    pickles = [name for name in names if name.count('/') == 1 and name.endswith('/data.pkl')]
    if not pickles:
        raise ConfigError(
            f'{path} is a zip archive, but not one of torch.save; unpack it and give the '
            'checkpoint in it'
        )
    [name] = pickles
    folder = name.removesuffix('data.pkl')
    if folder + 'constants.pkl' in names:
        raise ConfigError(
            f'{path} is a TorchScript program, whose code would have to run; ask its authors for a '
            'state_dict'
        )
    return folder


def _check_members(archive: zipfile.ZipFile, archive_size: int) -> None:
    """Refuse compressed members, which may expand to a thousand times their size before any check.

    torch.save does not compress.
    """
    for member in archive.infolist():
        is_plain = member.compress_type == zipfile.ZIP_STORED
        if not is_plain or not member.file_size == member.compress_size <= archive_size:
            _refuse(f'{member.filename} compressed, or of another size than it claims')


def _check_byte_order(archive: zipfile.ZipFile, folder: str, path: Path) -> None:
    name = folder + 'byteorder'
    if name not in archive.namelist():
        return
    # The member holds 'little' or 'big'; a longer member is not read.
    if archive.getinfo(name).file_size > 8 or archive.read(name) != sys.byteorder.encode():
        _refuse_byte_order(path)


def _refuse_byte_order(path: Path) -> NoReturn:
    raise ConfigError(
        f'{path} was written on a machine with another byte order; save it again on a machine with '
        'the byte order of this one'
    )


def _read_pickle(path: Path) -> Any:
    """Return the content of a plain pickle, or of a file of torch before 1.6.

    The latter holds five pickles, and after them the numbers of all storages.
    """
    with open(path, 'rb') as opened:
        file = _BoundedFile(opened, path.stat().st_size)
        content = _ForeignUnpickler(file).load()
        if content != LEGACY_MAGIC_NUMBER:
            return content
        return _read_legacy(path, file)


def _read_legacy(path: Path, file: _BoundedFile) -> Any:
    """Return the content of a file of torch before 1.6; the magic number has been read.

    The rest of the file: the protocol version, the system's properties, the content, the keys of
    the storages, the storages.
    """
    offsets: dict[str, int] = {}  # key of a storage -> its position in the file, in bytes

    def read_storage(storage: Storage) -> Tensor:
        with open(path, 'rb') as opened:
            file = _BoundedFile(opened, path.stat().st_size)
            file.seek(offsets[storage.key])
            raw = file.read(storage.numel * storage.dtype.itemsize)
            return _to_tensor(raw, storage)

    _ForeignUnpickler(file).load()  # the protocol version
    system = _ForeignUnpickler(file).load()
    if not system.get('little_endian', True):
        _refuse_byte_order(path)
    unpickler = _ForeignUnpickler(file, read_storage)
    content = unpickler.load()
    for key in _ForeignUnpickler(file).load():
        (numel,) = struct.unpack('<q', file.read(8))
        offsets[str(key)] = file.tell()
        itemsize = unpickler.storage_dtypes[str(key)].itemsize
        file.seek(numel * itemsize, 1)
    return content


def _read_safetensors(path: Path) -> dict[str, LazyTensor]:
    from safetensors import safe_open

    def loader(name: str) -> Callable[[], Tensor]:
        def load() -> Tensor:
            with safe_open(path, 'pt') as file:
                return file.get_tensor(name)

        return load

    with safe_open(path, 'pt') as file:
        return {
            name: LazyTensor(tuple(file.get_slice(name).get_shape()), loader(name))
            for name in file.keys()
        }
