"""Features in memory and on disk: formula, unreadable images, stops, processes, a full disk."""

import builtins
import hashlib
import json
import multiprocessing
import os
import signal
import socket
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from ssl_zoo.data.sources import Source
from ssl_zoo.distributed import rank, world_size
from ssl_zoo.distributed.process_group import process_group
from ssl_zoo.errors import ConfigError, UnreadableImage
from ssl_zoo.evaluation import feature_store as module
from ssl_zoo.evaluation.feature_store import json_hash, load_features, store_features
from ssl_zoo.evaluation.features import (
    Preprocessing,
    encode_batches,
    eval_mode,
    extract_features,
)

N, BATCH = 18, 3  # with blocks of 4: five, the last of 2; batches of 3 and 1
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
PREPROCESSING = Preprocessing(2, 2, MEAN, STD)
KEY = dict(network='a', mean=MEAN)
FORK = multiprocessing.get_context('fork')


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr(module, 'BLOCK', 4)
    monkeypatch.setattr(os, 'fsync', lambda _: None)  # slow, and only a power cut would show it


class Noise(Source):
    """Images of noise of 2 px. The reads are recorded; ``at``: what happens instead at an image."""

    def __init__(self, n=N, bad=(), labels=True, at=None, log: Path | None = None, delay=0.0):
        self.n, self.bad, self.at, self.log, self.delay, self.seen = (
            n,
            set(bad),
            at or {},
            log,
            delay,
            [],
        )
        self.labels = np.arange(n, dtype=np.int64) * 7 % 3 if labels else None
        self.classes = ['ant', 'bee', 'cat'] if labels else None

    def __len__(self):
        return self.n

    def name(self, i):
        return f'folder/{i}.png'

    def read(self, i):
        if int(i) in self.at:
            self.at[int(i)]()
        self.seen.append(int(i))
        if self.log:
            with open(self.log, 'a') as file:
                file.write(f'{i}\n')
        time.sleep(self.delay)
        if i in self.bad:
            raise UnreadableImage(f'torn at {i}')
        return Image.fromarray(pixels(int(i)))


def pixels(i: int) -> np.ndarray:
    return np.random.default_rng(i).integers(0, 256, (2, 2, 3)).astype(np.uint8)


class Shifted(nn.Module):
    """Only subtracts and divides, so that rounding does not depend on the batches."""

    def __init__(self, shift=0.25):
        super().__init__()
        self.register_buffer('shift', torch.tensor(shift))
        self.sizes = []

    def forward(self, x):
        assert not self.training
        self.sizes.append(len(x))
        return (x.flatten(1) - self.shift) / 3


def expected(which=range(N), shift=0.25) -> np.ndarray:
    """The formula, in float64."""
    normalised = [
        ((pixels(i) / 255 - np.array(MEAN)) / np.array(STD)).transpose(2, 0, 1).reshape(-1)
        for i in which
    ]
    return (np.array(normalised).reshape(-1, 12) - shift) / 3


def store(folder, source=None, net=None, key=KEY, **arguments):
    return store_features(
        net or Shifted(),
        Noise() if source is None else source,
        PREPROCESSING,
        folder,
        key,
        **dict(batch_size=BATCH) | arguments,
    )


def content(folder: Path) -> dict:
    """All files of a folder; the manifest without its time."""
    files = {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob('*') if p.is_file()
    }
    manifest = json.loads(files.pop('manifest.json'))
    assert manifest.pop('made').startswith('20')
    return files | {'manifest.json': manifest}


@pytest.fixture
def whole(tmp_path):
    """Function: the files of an extraction that nothing disturbed."""

    def make(name='whole', **source):
        store(tmp_path / name, Noise(**source))
        return content(tmp_path / name)

    return make


def at_once(*works) -> list:
    """Call every function in a new process, all at the same time.

    Returns what each returned or raised, or minus the signal that ended its process.
    """

    def call(work, pipe):
        torch.set_num_threads(1)
        try:
            pipe.send(work())
        except BaseException as error:
            pipe.send(error)

    pipes = [FORK.Pipe(duplex=False) for _ in works]
    children = [
        FORK.Process(target=call, args=(work, pipe[1]))
        for work, pipe in zip(works, pipes, strict=True)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    waiting = [child for child in children if child.is_alive()]
    for child in waiting:
        child.kill()
    assert not waiting, 'a process waits for ever'
    return [
        pipe[0].recv() if child.exitcode >= 0 else child.exitcode
        for child, pipe in zip(children, pipes, strict=True)
    ]


def two(work) -> list:
    """work(rank) in two processes that are joined as torchrun joins them."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]

    def process(number):
        os.environ.update(
            WORLD_SIZE='2',
            RANK=str(number),
            LOCAL_RANK=str(number),
            MASTER_ADDR='127.0.0.1',
            MASTER_PORT=str(port),
        )
        with process_group():
            return work(number)

    return at_once(lambda: process(0), lambda: process(1))


def without(seen, *bad) -> list[int]:
    """What could be read; what could not may be tried again."""
    return [i for i in seen if i not in bad]


def read_in(log: Path) -> list[int]:
    return [int(line) for line in log.read_text().split()] if log.exists() else []


# --- in memory


def test_features_are_the_formulas():
    net = Shifted()
    features = extract_features(net, Noise(), PREPROCESSING, BATCH)
    assert net.sizes == [3] * 6
    np.testing.assert_allclose(features.values, expected(), rtol=0, atol=2e-6)
    assert features.values.dtype == np.float32 and features.index.dtype == np.int64
    assert features.index.tolist() == list(range(N)) and features.unreadable == []
    assert features.labels.tolist() == [0, 1, 2] * 6


def test_images_are_resized_antialiased_and_cut_from_the_centre():
    class Large(Noise):
        def read(self, i):
            return Image.fromarray(
                np.random.default_rng(int(i)).integers(0, 256, (21, 33, 3)).astype(np.uint8)
            )

    for interpolation, method in (
        ('bicubic', Image.Resampling.BICUBIC),
        ('bilinear', Image.Resampling.BILINEAR),
    ):
        preprocessing = Preprocessing(4, 7, MEAN, STD, interpolation=interpolation)
        got = extract_features(nn.Flatten(), Large(2), preprocessing).values
        for i in range(2):
            small = (
                np.asarray(Large().read(i).resize((11, 7), method))[2:6, 4:8] / 255
            )  # 33 / 3 wide; (11 - 4) / 2 rounds to 4
            wanted = ((small - MEAN) / STD).transpose(2, 0, 1).reshape(-1)
            np.testing.assert_allclose(got[i], wanted, atol=1e-5)


def test_bf16_is_the_networks_precision_and_not_that_of_what_comes_out():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 5))
    full, half = (
        extract_features(net, Noise(), Preprocessing(2, 2, MEAN, STD, precision=p)).values
        for p in ('float32', 'bf16')
    )
    assert half.dtype == np.float32 and not np.array_equal(full, half)
    np.testing.assert_allclose(half, full, atol=0.05)
    assert torch.equal(torch.from_numpy(half).bfloat16().float(), torch.from_numpy(half))


def test_channels_last_is_the_memory_format_of_the_images():
    met = []

    class Look(nn.Module):
        def forward(self, x):
            met.append((x.is_contiguous(memory_format=torch.channels_last), x.is_contiguous()))
            return x.flatten(1)

    a, b = (
        extract_features(Look(), Noise(), Preprocessing(2, 2, MEAN, STD, channels_last=c)).values
        for c in (False, True)
    )
    assert met == [(False, True), (True, False)] and np.array_equal(a, b)


def test_batches_come_with_their_positions_and_what_could_not_be_read():
    source = Noise(8, bad=(1, 3, 4, 5))
    batches = list(
        encode_batches(Shifted().eval(), source, PREPROCESSING, torch.device('cpu'), batch_size=3)
    )
    assert [b[0].tolist() for b in batches] == [[0, 2], [], [6, 7]]
    assert batches[1][1] is None and [b[1].shape for b in batches[::2]] == [(2, 12), (2, 12)]
    assert [b[2] for b in batches] == [
        [(1, 'torn at 1')],
        [(3, 'torn at 3'), (4, 'torn at 4'), (5, 'torn at 5')],
        [],
    ]


@pytest.mark.parametrize(
    'make',
    [
        lambda net, folder: extract_features(net, Noise(), PREPROCESSING, BATCH),
        lambda net, folder: store(folder, net=net),
    ],
    ids=['memory', 'disk'],
)
def test_modes_statistics_gradients_and_random_numbers_stay_as_they_were(make, tmp_path):
    net = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(12), nn.Dropout(0.5), nn.Linear(12, 4)).train()
    net[2].eval()  # a mixed mode must come back as it was
    before, state = {k: v.clone() for k, v in net.state_dict().items()}, torch.get_rng_state()
    make(net, tmp_path / 'a')
    assert [m.training for m in net] == [True, True, False, True] and net.training
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters()) and torch.equal(
        state, torch.get_rng_state()
    )
    assert (
        make(net, tmp_path / 'b').values.tolist() == make(net, tmp_path / 'c').values.tolist()
    )  # no dropout


@pytest.mark.parametrize(
    'make',
    [
        lambda net, source, folder: extract_features(net, source, PREPROCESSING, BATCH),
        lambda net, source, folder: store(folder, source, net),
    ],
    ids=['memory', 'disk'],
)
def test_modes_come_back_after_an_error_too(make, tmp_path):
    net = Shifted().train()
    with pytest.raises(KeyboardInterrupt):
        make(net, Noise(at={5: interrupt}), tmp_path / 'a')
    assert net.training
    with pytest.raises(ZeroDivisionError), eval_mode(net):
        assert not net.training
        raise ZeroDivisionError
    assert net.training


def interrupt():
    raise KeyboardInterrupt


# --- on disk


@pytest.mark.parametrize('workers', [0, 2])
def test_stored_features_are_those_in_memory_bit_for_bit(tmp_path, workers):
    memory = extract_features(Shifted(), Noise(), PREPROCESSING, BATCH)
    stored = store(tmp_path / 'f', workers=workers)
    assert isinstance(stored.values, np.memmap) and not stored.values.flags.writeable
    assert stored.values.dtype == np.float32 and stored.values.tobytes() == memory.values.tobytes()
    np.testing.assert_allclose(stored.values, expected(), rtol=0, atol=2e-6)
    assert stored.labels.dtype == np.int64 and stored.labels.tolist() == memory.labels.tolist()
    assert (
        stored.index.dtype == np.int64
        and stored.index.tolist() == list(range(N))
        and stored.unreadable == []
    )
    half = store(tmp_path / 'half', dtype='float16')
    assert (
        half.values.dtype == np.float16
        and half.values.tobytes() == memory.values.astype(np.float16).tobytes()
    )
    assert (tmp_path / 'half' / 'features.npy').stat().st_size == 128 + N * 12 * 2


def test_the_folder_holds_what_is_said_and_nothing_else(tmp_path):
    store(tmp_path / 'f', Noise(bad=(4,)))
    assert {p.name for p in (tmp_path / 'f').iterdir()} == {
        'features.npy',
        'labels.npy',
        'index.npy',
        'names.json',
        'manifest.json',
    }
    left = [i for i in range(N) if i != 4]
    assert json.loads((tmp_path / 'f' / 'names.json').read_text()) == [
        f'folder/{i}.png' for i in left
    ]
    assert np.load(tmp_path / 'f' / 'labels.npy').tolist() == [i * 7 % 3 for i in left]
    assert np.load(tmp_path / 'f' / 'index.npy').tolist() == left
    np.testing.assert_allclose(
        np.load(tmp_path / 'f' / 'features.npy'), expected(left), rtol=0, atol=2e-6
    )
    manifest = json.loads((tmp_path / 'f' / 'manifest.json').read_text())
    assert (
        abs(time.mktime(time.strptime(manifest.pop('made'), '%Y-%m-%dT%H:%M:%S')) - time.time())
        < 60
    )
    assert manifest == dict(
        format='ssl_zoo features 1',
        key=dict(network='a', mean=list(MEAN)),
        images=N - 1,
        unreadable=[[4, 'torn at 4']],
        classes=['ant', 'bee', 'cat'],
    )


def test_images_without_labels_have_none(tmp_path):
    stored = store(tmp_path / 'f', Noise(labels=False))
    assert (
        stored.labels is None
        and not (tmp_path / 'f' / 'labels.npy').exists()
        and load_features(tmp_path / 'f').labels is None
    )
    assert json.loads((tmp_path / 'f' / 'manifest.json').read_text())['classes'] is None
    assert extract_features(Shifted(), Noise(labels=False), PREPROCESSING).labels is None
    stored = store(tmp_path / 'g', Noise(), key=dict(a=1))
    assert (
        store(tmp_path / 'g', Noise(labels=False), key=dict(a=2)).labels is None
    )  # none are left over


@pytest.mark.parametrize(
    'bad',
    [
        {0},
        {7},
        {N - 1},
        {0, 1, 2, 3},
        {4, 5, 6, 7},
        {16, 17},
        {0, 4, 8, 12, 16},
        {3, 4, 5, 11, 12},
        set(range(1, N)),
        set(range(N - 1)),
    ],
    ids=lambda bad: '-'.join(map(str, sorted(bad))),
)
def test_what_cannot_be_read_is_left_out(bad, tmp_path):
    left = [i for i in range(N) if i not in bad]
    reasons = [(i, f'torn at {i}') for i in sorted(bad)]
    for features in (
        extract_features(Shifted(), Noise(bad=bad), PREPROCESSING, BATCH),
        store(tmp_path / 'f', Noise(bad=bad)),
        load_features(tmp_path / 'f'),
    ):
        assert features.index.tolist() == left and features.labels.tolist() == [
            i * 7 % 3 for i in left
        ]
        assert features.unreadable == reasons and features.values.shape == (len(left), 12)
        np.testing.assert_allclose(features.values, expected(left), rtol=0, atol=2e-6)
    assert json.loads((tmp_path / 'f' / 'names.json').read_text()) == [
        f'folder/{i}.png' for i in left
    ]
    half = store(tmp_path / 'half', Noise(bad=bad), dtype='float16')
    assert half.values.dtype == np.float16 and np.array_equal(
        half.values, np.array(features.values).astype(np.float16)
    )


def test_no_readable_image_at_all_gets_a_sentence(tmp_path):
    with pytest.raises(
        ConfigError,
        match=r'none of the 18 images can be read, the first is folder/0.png \(torn at 0\)',
    ):
        store(tmp_path / 'f', Noise(bad=range(N)))
    with pytest.raises(ConfigError, match='no complete set'):
        load_features(tmp_path / 'f')
    memory = extract_features(Shifted(), Noise(bad=range(N)), PREPROCESSING, BATCH)
    assert (
        len(memory.values) == len(memory.index) == len(memory.labels) == 0
        and len(memory.unreadable) == N
    )


def test_a_source_without_images_gets_a_sentence(tmp_path):
    with pytest.raises(ConfigError, match='no images'):
        store(tmp_path / 'f', Noise(0))


def test_one_image_and_exactly_one_block(tmp_path):
    for n in (1, 4, 5, 8):
        np.testing.assert_allclose(
            store(tmp_path / str(n), Noise(n)).values, expected(range(n)), rtol=0, atol=2e-6
        )


def test_what_is_there_is_not_made_again(tmp_path):
    store(tmp_path / 'f', Noise(bad=(4,)))
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in (tmp_path / 'f').iterdir()}
    source, net = Noise(bad=(4,)), Shifted()
    again = store(
        tmp_path / 'f', source, net, key=dict(mean=list(MEAN), network='a')
    )  # a list is a tuple's equal, in any order
    assert without(source.seen, 4) == [] and net.sizes == [] and len(again.values) == N - 1
    assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in (tmp_path / 'f').iterdir()} == before


@pytest.mark.parametrize(
    'key',
    [
        dict(KEY, network='b'),
        dict(KEY, mean=(0.5, 0.4, 0.31)),
        dict(KEY, more=None),
        dict(network='a'),
        {},
    ],
)
def test_another_key_is_another_set(tmp_path, key):
    store(tmp_path / 'f', Noise(bad=(4,)))
    source = Noise(N + 3)
    stored = store(tmp_path / 'f', source, Shifted(1.5), key=key)
    assert source.seen == list(range(N + 3)) and stored.unreadable == []
    np.testing.assert_allclose(stored.values, expected(range(N + 3), 1.5), rtol=0, atol=2e-6)
    assert json.loads((tmp_path / 'f' / 'manifest.json').read_text())['key'] == json.loads(
        json.dumps(key)
    )


def test_a_key_is_a_hash_of_all_its_parts_in_any_order():
    by_hand = hashlib.sha256(b'{"a": [1, 2], "b": {"c": null, "d": 0.5}}').hexdigest()[:16]
    assert (
        json_hash(b=dict(d=0.5, c=None), a=(1, 2))
        == json_hash(a=[1, 2], b=dict(c=None, d=0.5))
        == by_hand
    )
    assert (
        len(
            {
                json_hash(a=1),
                json_hash(a=2),
                json_hash(a='1'),
                json_hash(b=1),
                json_hash(a=1, b=None),
                json_hash(),
            }
        )
        == 6
    )


def test_only_a_complete_set_is_loaded(tmp_path):
    for folder in (tmp_path / 'none', tmp_path):
        with pytest.raises(
            ConfigError,
            match=r'holds no complete set of features; make it with tools/extract_features.py',
        ):
            load_features(folder)
    with pytest.raises(KeyboardInterrupt):
        store(tmp_path / 'f', Noise(at={17: interrupt}))
    with pytest.raises(ConfigError, match='no complete set'):
        load_features(tmp_path / 'f')


@pytest.mark.parametrize(
    'damage',
    [
        'features.npy',
        'index.npy',
        'cut',
        b'',
        b'null',
        b'{"format": "ssl_zoo features 1"',
        b'\xff\xfe\x00',
        b'{"format": "ssl_zoo features 1"}',
        b'{"format": "another"}',
    ],
    ids=repr,
)
def test_a_damaged_set_is_told_and_made_again(tmp_path, damage, whole):
    whole = whole('f', bad=(2, 9))
    if damage == 'cut':  # by a copy that broke off
        path = tmp_path / 'f' / 'features.npy'
        path.write_bytes(path.read_bytes()[:300])
    elif isinstance(damage, str):  # removed to make room
        (tmp_path / 'f' / damage).unlink()
    else:
        (tmp_path / 'f' / 'manifest.json').write_bytes(damage)
    with pytest.raises(ConfigError):
        load_features(tmp_path / 'f')
    assert (
        store(tmp_path / 'f', Noise(bad=(2, 9))).values.shape == (N - 2, 12)
        and content(tmp_path / 'f') == whole
    )


def test_an_extraction_that_starts_anew_removes_its_own_files_alone(tmp_path):
    store(tmp_path / 'f')
    (tmp_path / 'f' / 'my_notes.txt').write_text('mine')
    (tmp_path / 'f' / 'manifest.json').write_text('{}')
    store(tmp_path / 'f')
    assert (tmp_path / 'f' / 'my_notes.txt').read_text() == 'mine'
    assert load_features(tmp_path / 'f').values.shape == (N, 12)


def test_values_that_float16_cannot_hold_are_not_stored_as_infinite(tmp_path):
    class Large(Shifted):
        def forward(self, x):
            return super().forward(x) * 1e6

    assert np.isfinite(store(tmp_path / 'f', net=Large()).values).all()
    with pytest.raises(ConfigError, match='float16'):
        store(tmp_path / 'h', net=Large(), dtype='float16')


# --- stops


@pytest.mark.parametrize('bad', [(), (2, 9, 16)])
@pytest.mark.parametrize('at', [0, 3, 4, 9, 11, 17])
def test_an_interrupted_extraction_goes_on_and_ends_the_same(tmp_path, at, bad, whole):
    whole = whole(bad=bad)
    with pytest.raises(KeyboardInterrupt):
        store(tmp_path / 'f', Noise(bad=bad, at={at: interrupt}))
    source = Noise(bad=bad)
    store(tmp_path / 'f', source)
    assert source.seen == list(range(at // 4 * 4, N))  # from the block that was interrupted
    assert content(tmp_path / 'f') == whole


@pytest.mark.parametrize('bad', [(), (2, 9, 16)])
def test_kill_9_in_the_middle_ends_the_same(tmp_path, bad, whole):
    whole = whole(bad=bad)
    source = Noise(
        bad=bad, at={10: lambda: os.kill(os.getpid(), signal.SIGKILL)}, log=tmp_path / 'log'
    )
    assert at_once(lambda: store(tmp_path / 'f', source).values.sum()) == [-signal.SIGKILL]
    assert read_in(tmp_path / 'log') == list(range(10))
    again = Noise(bad=bad)
    store(tmp_path / 'f', again)
    assert again.seen == list(range(8, N)) and content(tmp_path / 'f') == whole


@pytest.mark.parametrize(
    'name',
    [
        'key.json',
        '0.json',
        '4.json',
        'index.npy',
        'labels.npy',
        'names.json',
        'manifest.json',
        'done',
    ],
)
@pytest.mark.parametrize('bad', [(), (2, 9, 16), (N - 1,)])
def test_a_stop_between_any_two_files_ends_the_same(tmp_path, name, bad, whole, monkeypatch):
    whole = whole(bad=bad)
    real, remove, reached = module.atomic_write, module.shutil.rmtree, []

    def write(path, what):
        if path.name == name:
            interrupt()
        real(path, what)
        reached.append(path.name)

    def rmtree(path, **arguments):
        if name == 'done' and 'manifest.json' in reached:
            interrupt()
        remove(path, **arguments)

    monkeypatch.setattr(module, 'atomic_write', write)
    monkeypatch.setattr(module.shutil, 'rmtree', rmtree)
    with pytest.raises(KeyboardInterrupt):
        store(tmp_path / 'f', Noise(bad=bad))
    monkeypatch.setattr(module, 'atomic_write', real)
    monkeypatch.setattr(module.shutil, 'rmtree', remove)
    source = Noise(bad=bad)
    stored = store(tmp_path / 'f', source)
    read = (
        list(range(N)) if name in ('key.json', '0.json') else [16, 17] if name == '4.json' else []
    )
    assert without(source.seen, *bad) == without(read, *bad)
    files = {k: v for k, v in content(tmp_path / 'f').items() if not k.startswith('done/')}
    assert files == whole and len(stored.values) == N - len(bad)


@pytest.mark.parametrize('other', [dict(n=N, bad=(1, 13)), dict(n=N + 5), dict(n=5)], ids=str)
def test_left_overs_of_another_key_are_not_mixed_in(tmp_path, other, whole):
    whole = whole()
    with pytest.raises(KeyboardInterrupt):
        store(
            tmp_path / 'f',
            Noise(**other, at={min(other['n'] - 1, 14): interrupt}),
            Shifted(9.0),
            key=dict(network='b'),
        )
    source = Noise()
    store(tmp_path / 'f', source)
    assert source.seen == list(range(N)) and content(tmp_path / 'f') == whole


def test_a_full_disk_gets_a_sentence_and_the_next_call_goes_on(tmp_path, monkeypatch, whole):
    whole = whole(bad=(2, 9))

    class Full:
        """A file that has room for so many writes."""

        room = 5

        def __init__(self, file):
            self.file = file

        def __getattr__(self, name):
            return getattr(self.file, name)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def write(self, data):
            if not Full.room:
                self.file.write(data[:7])  # torn
                raise OSError(28, 'No space left on device')
            Full.room -= 1
            return self.file.write(data)

    def open_file(path, mode='r', *arguments, **named):
        file = builtins.open(path, mode, *arguments, **named)
        return Full(file) if Path(path).name == 'rows.npy' and mode != 'rb' else file

    monkeypatch.setattr(module, 'open', open_file, raising=False)
    with pytest.raises(ConfigError, match='No space left on device; free some space') as error:
        store(tmp_path / 'f', Noise(bad=(2, 9)))
    assert (
        str(tmp_path / 'f') in str(error.value)
        and '--work-dir' in str(error.value)
        and error.value.__suppress_context__
    )
    monkeypatch.setattr(module, 'open', builtins.open)
    source = Noise(bad=(2, 9))
    store(tmp_path / 'f', source)
    assert (
        source.seen[0] in (4, 8)
        and source.seen == list(range(source.seen[0], N))
        and content(tmp_path / 'f') == whole
    )


@pytest.mark.parametrize('name', ['key.json', '2.json', 'index.npy', 'manifest.json'])
def test_a_disk_that_is_full_at_any_file_costs_a_sentence(tmp_path, monkeypatch, whole, name):
    whole, real = whole(bad=(2, 9)), module.atomic_write

    def full(path, write):
        if path.name == name:
            raise OSError(28, 'No space left on device')
        real(path, write)

    monkeypatch.setattr(module, 'atomic_write', full)
    for _ in range(2):  # it is still full
        with pytest.raises(ConfigError, match='No space left on device; free some space'):
            store(tmp_path / 'f', Noise(bad=(2, 9)))
    monkeypatch.setattr(module, 'atomic_write', real)
    source = Noise(bad=(2, 9))
    store(tmp_path / 'f', source)
    assert without(source.seen, 2, 9) == without(
        dict([('key.json', range(N)), ('2.json', range(8, N))]).get(name, []), 2, 9
    )
    assert content(tmp_path / 'f') == whole


@pytest.mark.parametrize('folder', ['/proc/none/f', '/dev/null/f'])
def test_a_folder_that_cannot_be_made_gets_a_sentence(folder):
    with pytest.raises(
        ConfigError,
        match=f'could not write features to {folder}.*choose another folder with --work-dir',
    ):
        store(Path(folder))


# --- several processes


def test_two_runs_at_once_make_one_set_once(tmp_path, whole):
    whole, log = whole(bad=(2, 9)), tmp_path / 'log'
    sums = at_once(
        *[lambda: store(tmp_path / 'f', Noise(bad=(2, 9), log=log, delay=0.01)).values.tobytes()]
        * 3
    )
    assert sums[0] == sums[1] == sums[2] and len(sums[0]) == (N - 2) * 12 * 4
    assert (
        without(read_in(log), 2, 9) == without(range(N), 2, 9) and content(tmp_path / 'f') == whole
    )


def test_the_second_run_goes_on_when_the_first_is_killed(tmp_path, whole):
    whole, log = whole(), tmp_path / 'log'
    first = Noise(at={10: lambda: os.kill(os.getpid(), signal.SIGKILL)}, log=log, delay=0.02)

    def second():
        while len(read_in(log)) < 2:  # the first has begun, and has the lock
            time.sleep(0.005)
        return len(store(tmp_path / 'f', Noise(log=log)).values)

    assert at_once(lambda: store(tmp_path / 'f', first), second) == [-signal.SIGKILL, N]
    assert read_in(log) == [*range(10), *range(8, N)] and content(tmp_path / 'f') == whole


@pytest.mark.parametrize('bad', [(), (2, 9, 16)])
def test_two_joined_processes_make_what_one_makes_and_share_the_work(tmp_path, bad, whole):
    whole = whole(bad=bad)

    def work(number):
        assert world_size() == 2 and rank() == number
        source = Noise(bad=bad)
        stored = store(tmp_path / 'f', source)
        again = Noise(bad=bad)
        assert store(
            tmp_path / 'f', again
        ).values.tobytes() == stored.values.tobytes() and not without(again.seen, *bad)
        return source.seen, stored.values.tobytes(), stored.labels.tolist(), stored.unreadable

    (seen, *first), (other, *second) = two(work)
    assert seen == [*range(0, 4), *range(8, 12), 16, 17] and other == [
        *range(4, 8),
        *range(12, 16),
    ]  # block after block
    assert first == second and content(tmp_path / 'f') == whole


def test_what_one_process_began_two_go_on_with_and_the_other_way_round(tmp_path, whole):
    whole = whole(bad=(2, 9))
    with pytest.raises(KeyboardInterrupt):
        store(tmp_path / 'f', Noise(bad=(2, 9), at={6: interrupt}))

    def work(number):
        source = Noise(bad=(2, 9))
        store(tmp_path / 'f', source)
        return source.seen

    assert (
        two(work) == [[8, 9, 10, 11, 16, 17], [4, 5, 6, 7, 12, 13, 14, 15]]
        and content(tmp_path / 'f') == whole
    )

    def killed(number):
        return store(
            tmp_path / 'g', Noise(bad=(2, 9), at={13: lambda: os.kill(os.getpid(), signal.SIGKILL)})
        )

    ends = two(killed)
    assert ends[1] == -signal.SIGKILL and isinstance(
        ends[0], Exception
    )  # told by the process group, not left waiting
    source = Noise(bad=(2, 9))
    store(tmp_path / 'g', source)
    assert (
        4 not in source.seen
        and {12, 13, 14, 15} <= set(source.seen)
        and content(tmp_path / 'g') == whole
    )


def test_another_key_on_two_processes(tmp_path, whole):
    store(tmp_path / 'f', Noise(N + 5), Shifted(9.0), key=dict(network='b'))
    two(lambda number: store(tmp_path / 'f') and None)
    assert content(tmp_path / 'f') == whole()


def test_no_readable_image_is_told_by_every_process(tmp_path):
    ends = two(lambda number: store(tmp_path / 'f', Noise(bad=range(N))) and None)
    assert [type(end) for end in ends] == [
        ConfigError,
        ConfigError,
    ] and 'none of the 18 images can be read' in str(ends[0])


def test_a_disk_that_is_full_for_one_process_stops_the_other_too(tmp_path, whole):
    def work(number):
        real = module.atomic_write

        def full(path, write):
            if path.name == '3.json':
                raise OSError(28, 'No space left on device')
            real(path, write)

        module.atomic_write = full
        store(tmp_path / 'f')

    ends = two(work)
    assert (
        isinstance(ends[0], Exception)
        and isinstance(ends[1], ConfigError)
        and 'No space left on device' in str(ends[1])
    )
    source = Noise()
    store(tmp_path / 'f', source)
    assert 12 in source.seen and 4 not in source.seen and content(tmp_path / 'f') == whole()


@pytest.mark.parametrize('world', [{}, {'WORLD_SIZE': '1', 'RANK': '0'}])
def test_one_process_joins_nothing(monkeypatch, world):
    monkeypatch.delenv('WORLD_SIZE', raising=False)
    for key, value in world.items():
        monkeypatch.setenv(key, value)
    with process_group():
        assert world_size() == 1 and rank() == 0 and not torch.distributed.is_initialized()


def test_an_error_in_one_of_two_leaves_none_waiting():
    def inner(number):
        raise KeyError('mine')

    ends = [type(end).__name__ for end in two(inner)]
    # Who is late may not find the other any more.
    assert (
        'KeyError' in ends
        and set(ends) <= {'KeyError', 'ConfigError', 'RuntimeError'}
        and not torch.distributed.is_initialized()
    )


# --- memory


@pytest.mark.parametrize('bad', [(), (5, 1200)])
def test_memory_does_not_grow_with_the_number_of_images(tmp_path, monkeypatch, bad):
    monkeypatch.setattr(module, 'BLOCK', 50)

    class Wide(nn.Module):
        def forward(self, x):
            return x.flatten(1)[:, :1].repeat(1, 8192)

    class Grey(Noise):
        def read(self, i):
            if i in self.bad:
                raise UnreadableImage('torn')
            return Image.fromarray(np.full((2, 2, 3), i % 256, np.uint8))

    peaks = []
    for n in (150, 1500):  # 4.7 and 47 MiB of features
        tracemalloc.start()
        stored = store(tmp_path / f'{n}', Grey(n, bad), Wide(), batch_size=10)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        left = [i for i in range(n) if i not in bad]
        np.testing.assert_allclose(
            stored.values[:, 8191], (np.array(left) % 256 / 255 - 0.5) / 0.2, atol=1e-5
        )
    assert peaks[1] < peaks[0] + 2**20 and peaks[1] < 8 * 2**20
