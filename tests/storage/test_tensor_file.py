"""Reading files of torch.save: what a small file may not claim."""

import pickle
import time
import zipfile
from collections import OrderedDict

import pytest
import torch

from ssl_zoo.storage.tensor_file import read_tensor_file

pytestmark = pytest.mark.quick


def shared_lists(levels):
    value = [0]
    for _ in range(levels):
        value = [value, value]
    return value


def shared_tuples(levels):
    value = (0,)
    for _ in range(levels):
        value = (value, value)
    return value


def cycle():
    value = []
    value.append(value)
    return dict(a=value)


def dict_with_attribute(name, value):
    made = OrderedDict(a=1)
    setattr(made, name, value)
    return made


CONTENTS = {
    'a tensor of stride 0': (
        lambda: dict(a=torch.zeros(1).expand(10**12)),
        'bytes whose numbers are not in it',
    ),
    'a meta tensor': (lambda: dict(a=torch.zeros(10**12, device='meta')), 'no tensor or value'),
    'a sparse tensor': (lambda: dict(a=torch.eye(3).to_sparse()), 'no tensor or value'),
    'a complex tensor': (lambda: dict(a=torch.zeros(3, dtype=torch.complex64)), 'not a plain one'),
    'many tensors in one storage': (
        lambda: [torch.zeros(1000)] * 10_000,
        'fill more than',
    ),
    'many texts in one': (lambda: ['x' * 10_000] * 10_000, 'fill more than'),
    'a list in itself': (cycle, 'more than 64 deep'),
    'shared lists': (lambda: shared_lists(60), 'more than 2,000,000 values'),
    'a long number': (lambda: dict(a=10**60), 'a whole number beyond'),
    'an attribute': (lambda: dict_with_attribute('get', [1]), 'a dict with attributes'),
    'its metadata': (lambda: dict_with_attribute('_metadata', [1]), 'metadata is no dict'),
    'a key': (lambda: {(1, 2): 3}, 'a key of type tuple'),
    'another type': (lambda: dict(a=b'bytes'), 'no tensor or value'),
}


@pytest.mark.parametrize('kind', CONTENTS)
def test_a_content_larger_than_its_file_is_refused_at_once(tmp_path, kind):
    make, words = CONTENTS[kind]
    torch.save(make(), tmp_path / 'a.pth')
    started = time.perf_counter()
    with pytest.raises(ValueError, match=words):
        read_tensor_file(tmp_path / 'a.pth')
    assert time.perf_counter() - started < 5


def rewrite(source, target, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, 'w', compression) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))


def test_a_zip_bomb_is_refused_before_it_is_read(tmp_path, monkeypatch):
    torch.save(dict(a=torch.zeros(10**6)), tmp_path / 'a.pth')
    rewrite(tmp_path / 'a.pth', tmp_path / 'stored.pth')
    assert len(read_tensor_file(tmp_path / 'stored.pth')['a']) == 10**6
    rewrite(tmp_path / 'a.pth', tmp_path / 'bomb.pth', zipfile.ZIP_DEFLATED)
    monkeypatch.setattr(torch, 'load', None)
    with pytest.raises(ValueError, match='is compressed, which torch.save never does'):
        read_tensor_file(tmp_path / 'bomb.pth')


def test_a_key_whose_hash_never_ends_is_refused_before_it_is_hashed(tmp_path):
    key = pickle.dumps(shared_tuples(60), protocol=2)[2:-1]  # without its start and its stop
    with zipfile.ZipFile(tmp_path / 'a.pth', 'w') as archive:
        archive.writestr('a/data.pkl', b'\x80\x02}' + key + b'K\x01s.')
        archive.writestr('a/version', '3')
        archive.writestr('a/byteorder', 'little')
    with pytest.raises(ValueError, match='more than 2,000,000 values'):
        read_tensor_file(tmp_path / 'a.pth')


def test_files_of_torch_before_1_6_are_refused(tmp_path):
    torch.save(dict(a=1), tmp_path / 'old.pth', _use_new_zipfile_serialization=False)
    with pytest.raises(zipfile.BadZipFile):
        read_tensor_file(tmp_path / 'old.pth')


def test_what_a_run_writes_is_read(tmp_path):
    network = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3))
    network = network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.randn(4, 3)).sum().backward()
    optimizer.step()
    content = dict(
        network=network.state_dict(),  # with _metadata
        optimizer=optimizer.state_dict(),
        unreadable={1, 2},
        image=torch.zeros(2, 3, 4, 4).to(memory_format=torch.channels_last),
        transposed=torch.zeros(3, 5).T,
        tied=[torch.zeros(1)] * 3,
        nothing=torch.zeros(0, 10**6),
        other=[None, True, 1.5, -1, 'text', (1, 2)],
    )
    torch.save(content, tmp_path / 'a.pth')
    read = read_tensor_file(tmp_path / 'a.pth')
    assert read['unreadable'] == {1, 2} and read['other'] == content['other']
    assert torch.equal(read['network']['0.weight'], network[0].weight)


class Named:
    """Is pickled as a call of a function of this name."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def test_a_name_that_is_no_tensor_or_value_is_refused_before_it_is_called(tmp_path):
    path = tmp_path / 'a.pth'
    torch.save(dict(a=Named(bytearray, 3 << 30)), path)
    with pytest.raises(ValueError, match='names .*bytearray'):
        read_tensor_file(path)


def test_a_file_that_an_older_reader_would_read_is_refused(tmp_path):
    """torch.load reads the pickle at the start; zipfile finds the archive behind it."""
    path = tmp_path / 'a.pth'
    torch.save(dict(a=1), path)
    archive = path.read_bytes()
    torch.save(dict(a=2), path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes() + archive)
    with pytest.raises(zipfile.BadZipFile, match='does not begin as an archive'):
        read_tensor_file(path)


def test_every_dtype_and_kind_of_value_that_a_checkpoint_has_is_read(tmp_path):
    path = tmp_path / 'a.pth'
    dtypes = (torch.float64, torch.bfloat16, torch.float16, torch.uint8, torch.bool, torch.int64)
    content = {str(dtype): torch.zeros(3, dtype=dtype) for dtype in dtypes}
    content.update(
        wide=torch.zeros(3, dtype=torch.uint16),
        parameter=torch.nn.Parameter(torch.ones(2)),
        values=[1, 2.5, True, None, 'text', (1, 2), {3}],
        state=torch.nn.Linear(2, 2).state_dict(),
    )
    torch.save(content, path)
    assert read_tensor_file(path).keys() == content.keys()
