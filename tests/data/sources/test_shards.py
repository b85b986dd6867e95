"""Tar shards: the images and labels of other sources, archives of all kinds, the order of an epoch, damaged and hostile files."""

import io
import os
import pickle
import tarfile
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssl_zoo.data.loader import train_loader
from ssl_zoo.data.random import permutation
from ssl_zoo.data.sources import Joined, Subset, build_source, shard_index, shards
from ssl_zoo.data.sources.arrays import Digits
from ssl_zoo.data.sources.folder import ImageFolder
from ssl_zoo.data.sources.shard_paths import find_shards
from ssl_zoo.data.sources.shards import TarShards
from ssl_zoo.data.sources.tar import BLOCK, DamagedArchive, members
from ssl_zoo.data.splits import hold_out
from ssl_zoo.data.stream_sampler import StreamSampler, order_of
from ssl_zoo.data.view_dataset import ViewDataset
from ssl_zoo.data.views import View
from ssl_zoo.errors import ConfigError, UnreadableImage


def png(value, size=6) -> bytes:
    file = io.BytesIO()
    Image.new('RGB', (size, size), (value, 255 - value, 7)).save(file, 'PNG')
    return file.getvalue()


def write(path, files, **how) -> Path:
    """A tar archive of (name, bytes)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, **{'mode': 'w', **how}) as tar:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def samples(values, prefix=''):
    return [
        file
        for v in values
        for file in (
            (f'{prefix}{v:05d}.png', png(v)),
            (f'{prefix}{v:05d}.cls', str(v % 3).encode()),
        )
    ]


@pytest.fixture
def folder(tmp_path):
    """7 shards of 3 to 9 images each, 42 in all; image i is green 255 - i."""
    start = 0
    for number, n in enumerate((6, 3, 9, 6, 8, 4, 6)):
        write(tmp_path / 'shards' / f'a-{number}.tar', samples(range(start, start + n)))
        start += n
    return tmp_path / 'shards'


def reds(source):
    return [source.read(i).getpixel((0, 0))[0] for i in range(len(source))]


# --- What is read


def test_images_labels_and_bytes_are_those_of_the_folder(image_folder, tmp_path):
    """Of CIFAR-10 where its folders lie in data/, of the fixture's images elsewhere."""
    cifar = Path(__file__).parents[2] / 'data' / 'cifar10' / 'test'
    source = (
        build_source(dict(type='ImageFolder', root=str(cifar), limit=300))
        if cifar.is_dir()
        else ImageFolder(str(image_folder()))
    )
    n = len(source)
    for number, part in enumerate(np.array_split(np.arange(n), 5)):
        write(
            tmp_path / 'out' / f's{number}.tar',
            [
                file
                for i in part.tolist()
                for file in (
                    (f'{i:05d}{source.encoded(i)[0]}', source.encoded(i)[1]),
                    (f'{i:05d}.cls', str(source.labels[i]).encode()),
                )
            ],
        )
    (tmp_path / 'names.txt').write_text('\n'.join(source.classes))
    tar = TarShards(str(tmp_path / 'out'), classes=str(tmp_path / 'names.txt'))
    assert (
        len(tar) == n
        and tar.labels.tolist() == source.labels.tolist()
        and tar.classes == source.classes
    )
    for i in range(n):
        assert np.array_equal(np.asarray(tar.read(i)), np.asarray(source.read(i)))
        assert tar.encoded(i) == source.encoded(i)
    assert tar.name(n - 1) == f's4.tar/{n - 1:05d}' and np.array_equal(
        np.asarray(tar.read(-1)), np.asarray(source.read(n - 1))
    )
    with pytest.raises(IndexError):
        tar.read(n)


def test_members_in_any_order_of_other_kinds_and_in_folders(tmp_path):
    long = 'folder/' * 30 + 'n' * 120
    files = [
        ('x.y/b.cls', b'2\n'),
        ('b.png', png(1)),
        ('x.y/b.PNG', png(2)),
        ('b.json', b'{}'),
        ('b.cls', b' 0'),
        ('x.y/b.seg.png', png(9)),
        ('.hidden.png', b'no'),
        ('x.y/._b.png', b'no'),
        ('README', b'no'),
        ('__info__.txt', b'no'),
        (f'{long}.png', png(3)),
        (f'{long}.cls', b'10'),
        ('caf\udce9.png', png(4)),
        ('caf\udce9.cls', b'1'),
        ('empty.json', b''),
    ]
    for number, kind in enumerate((tarfile.PAX_FORMAT, tarfile.GNU_FORMAT)):
        path = write(tmp_path / f'{number}.tar', files, format=kind)
        source = TarShards(str(path))
        assert [source.name(i) for i in range(4)] == [
            f'{number}.tar/{key}' for key in ('b', 'x.y/b', long, 'caf\udce9')
        ]
        assert (
            reds(source) == [1, 2, 3, 4]
            and source.labels.tolist() == [0, 2, 10, 1]
            and source.classes == [str(i) for i in range(11)]
        )
        assert len(source.manifest()) == 16
    path = write(
        tmp_path / 'u.tar',
        [('p' * 90 + '/' + 'q' * 90 + '.png', png(5))],
        format=tarfile.USTAR_FORMAT,
    )
    source = TarShards(str(path))
    assert source.name(0) == 'u.tar/' + 'p' * 90 + '/' + 'q' * 90 and reds(source) == [5]
    assert source.labels is None and source.classes is None


def test_links_and_folders_are_no_images_whatever_size_they_claim(tmp_path):
    with tarfile.open(tmp_path / 'a.tar', 'w') as tar:
        for name, kind in (
            ('0.png', tarfile.DIRTYPE),
            ('1.png', tarfile.SYMTYPE),
            ('2.png', tarfile.LNKTYPE),
            ('3.png', tarfile.FIFOTYPE),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.size, member.linkname = (
                kind,
                100,
                'l' * (150 if kind == tarfile.LNKTYPE else 1),
            )
            tar.addfile(member)
        member = tarfile.TarInfo('4.png')
        member.size = len(png(4))
        tar.addfile(member, io.BytesIO(png(4)))
    assert reds(TarShards(str(tmp_path / 'a.tar'))) == [4]


def test_the_same_files_as_tarfile_finds(tmp_path):
    rng = np.random.default_rng(0)
    names = [
        ''.join(rng.choice(list('abé/. \n'), int(size))).strip('/') or 'x'
        for size in rng.integers(1, 300, 60)
    ]
    for kind in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        path = write(
            tmp_path / 'a.tar',
            [(name, rng.bytes(int(rng.integers(0, 1500)))) for name in names],
            format=kind,
        )
        with tarfile.open(path) as tar, open(path, 'rb') as file:
            assert list(members(file.fileno(), path.stat().st_size)) == [
                (m.name, m.offset_data, m.size) for m in tar if m.isreg()
            ]


def test_sizes_in_binary_as_of_files_above_8_gib(tmp_path):
    path = write(tmp_path / 'a.tar', [('0.png', png(3))])
    data = bytearray(path.read_bytes())
    data[124:136] = b'\x80' + len(png(3)).to_bytes(11)
    data[148:156] = b' ' * 8
    data[148:156] = b'%06o\0 ' % sum(data[:BLOCK])
    path.write_bytes(data)
    assert reds(TarShards(str(path))) == [3]


def test_shards_without_images_among_others(folder):
    for name in ('a-', 'a-2x', 'z'):
        write(folder / f'{name}.tar', [('notes.txt', b'no')])
    source = TarShards(str(folder), window=2)
    assert (
        reds(source) == list(range(42))
        and source.name(9) == 'a-2.tar/00009'
        and sorted(source.order(0, 0)) == list(range(42))
    )


def test_patterns(folder):
    def names(pattern):
        return [Path(p).name for p in find_shards(f'{folder}/{pattern}')]

    assert names('') == names('*.tar') == names('a-{0..6}.tar') == [f'a-{i}.tar' for i in range(7)]
    assert names('a-{2..0}.tar') == ['a-2.tar', 'a-1.tar', 'a-0.tar'] and names('a-3.tar') == [
        'a-3.tar'
    ]
    assert names('a-{0,{4..5}}.tar') == ['a-0.tar', 'a-4.tar', 'a-5.tar'] and names(
        '{a,a}-[12].tar'
    ) == ['a-1.tar', 'a-2.tar']
    (folder / 'b-0009.tar').write_bytes(b'')
    (folder / 'b-0010.tar').write_bytes(b'')
    (folder / '.c.tar').write_bytes(b'')
    assert names('b-{0009..0010}.tar') == ['b-0009.tar', 'b-0010.tar'] and len(names('')) == 9
    (folder / 'odd{0..1}[x].tar').write_bytes(b'')
    assert names('odd{0..1}[x].tar') == ['odd{0..1}[x].tar']


def test_shards_of_one_name_in_two_folders_are_told_apart(tmp_path):
    for part in 'ab':
        write(tmp_path / part / '0.tar', samples([1]))
    source = TarShards(f'{tmp_path}/{{a,b}}/0.tar')
    assert [source.name(i) for i in range(2)] == ['a/0.tar/00001', 'b/0.tar/00001']


def test_workers_pickles_and_threads_read_the_same(folder, monkeypatch):
    source = TarShards(str(folder))
    assert reds(source) == reds(pickle.loads(pickle.dumps(source))) == list(range(42))
    dataset = ViewDataset(source, [View(6)], 0)
    assert [
        i for batch in train_loader(dataset, 7, 2, stop=6) for i in batch['index'].tolist()
    ] == source.order(0, 0).tolist()
    small = shards.lru_cache(maxsize=1)(
        shards._open_shard.__wrapped__
    )  # every thread closes what another may be reading
    monkeypatch.setattr(shards, '_open_shard', small)
    wrong, before = [], len(os.listdir('/proc/self/fd'))

    def look(seed):
        try:
            wrong.extend(
                i
                for i in np.random.default_rng(seed).integers(0, 42, 500)
                if source.read(i).getpixel((0, 0))[0] != i
            )
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=look, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and len(os.listdir('/proc/self/fd')) <= before + 1


def test_few_shards_are_open_at_a_time(tmp_path):
    for number in range(shards.OPEN_SHARDS + 20):
        write(tmp_path / f'{number:03d}.tar', samples([number]))
    before = len(os.listdir('/proc/self/fd'))
    assert reds(TarShards(str(tmp_path))) == list(range(shards.OPEN_SHARDS + 20))
    assert len(os.listdir('/proc/self/fd')) <= before + shards.OPEN_SHARDS


# --- The order of an epoch


def test_the_order_is_a_permutation_that_only_epoch_and_seed_change(folder):
    source, again = TarShards(str(folder), window=2), TarShards(str(folder), window=2)
    orders = [source.order(epoch, seed) for epoch in range(3) for seed in range(2)]
    assert all(sorted(order) == list(range(42)) and order.dtype == np.int64 for order in orders)
    assert len({tuple(order) for order in orders}) == 6
    assert np.array_equal(orders[3], again.order(1, 1))


def test_few_shards_are_read_from_at_a_time(folder):
    shard, at = np.repeat(np.arange(7), [6, 3, 9, 6, 8, 4, 6]), np.arange(42)
    for window in (1, 2, 3, 6):
        source, neighbours = TarShards(str(folder), window=window), set()
        for epoch in range(4):
            visited = shard[source.order(epoch, 0)]
            spans = [(at[visited == s].min(), at[visited == s].max()) for s in range(7)]
            unfinished = [sum(first <= p <= last for first, last in spans) for p in at]
            assert max(unfinished) <= window and (
                window == 1 or np.mean(unfinished) > 1.4
            )  # and they are mixed
            neighbours |= {
                (s, t)
                for s in range(7)
                for t in range(s)
                if spans[s][0] < spans[t][1] and spans[t][0] < spans[s][1]
            }
        assert (
            window == 1 or len(neighbours) > 3 * window
        )  # which are together differs between epochs
    alone = TarShards(str(folder), window=1).order(0, 0)
    assert any(np.any(np.diff(alone[shard[alone] == s]) < 0) for s in range(7))


def test_a_window_of_all_shards_gives_the_order_of_a_folder(folder):
    assert np.array_equal(TarShards(str(folder), window=7).order(2, 5), permutation(42, 5, 2))


def test_subsets_keep_the_order_of_their_source(folder):
    source = TarShards(str(folder), window=2)
    stay, _ = hold_out(source, 10)
    part = Subset(source, stay)
    order = source.order(1, 3)
    assert stay[part.order(1, 3)].tolist() == [i for i in order if i in set(stay)]
    inner = Subset(part, np.arange(0, len(part), 2))
    assert stay[::2][inner.order(1, 3)].tolist() == [i for i in order if i in set(stay[::2])]
    twice = Subset(source, np.array([5, 5, 40, 0]))
    assert sorted(twice.order(0, 0)) == [0, 1, 2, 3]


def test_other_sources_keep_the_order_they_had():
    source = Digits('val')
    part = Subset(source, np.arange(5, 90, 3))
    for other in (source, part, Subset(part, np.array([3, 1, 2])), Joined(source, part)):
        for epoch, seed in ((0, 0), (3, 1)):
            assert np.array_equal(other.order(epoch, seed), permutation(len(other), seed, epoch))
            assert np.array_equal(other.order(epoch, seed), order_of(epoch, len(other), seed))


def test_a_stream_from_the_middle_goes_on_as_the_straight_one(folder):
    source = TarShards(str(folder), window=2)
    order = partial(source.order, seed=4)
    straight = list(StreamSampler(42, 5, order, stop=20))
    assert list(StreamSampler(42, 5, order, start=11, stop=20)) == straight[11:]
    dataset = ViewDataset(source, [View(6)], 4)
    assert [b['index'].tolist() for b in train_loader(dataset, 5, 0, start=11, stop=20)] == [
        [i for _, i in b] for b in straight[11:]
    ]


def test_two_processes_with_two_workers_each_share_an_epoch(folder):
    """Each process takes its half of every batch of the one stream."""
    source = TarShards(str(folder), window=2)
    seen = []
    for rank in range(2):
        loader = train_loader(ViewDataset(source, [View(6)], 0), 6, 2, stop=7)
        batches = [batch[3 * rank : 3 * rank + 3] for batch in loader.batch_sampler]
        mine = type(loader)(
            loader.dataset, batch_sampler=batches, num_workers=2, collate_fn=loader.collate_fn
        )
        seen.append([i for batch in mine for i in batch['index'].tolist()])
    assert len(seen[0]) == len(seen[1]) == 21 and set(seen[0]).isdisjoint(seen[1])
    assert sorted(seen[0] + seen[1]) == list(range(42))


# --- The stored index


def stored(folder) -> Path:
    [path] = folder.glob('index-*.npz')
    return path


def test_the_index_is_stored_and_used(folder, monkeypatch):
    first = TarShards(str(folder))
    assert stored(folder).stat().st_size < 10_000
    monkeypatch.setattr(shard_index, '_build', None)
    second = TarShards(str(folder))
    assert all(
        np.array_equal(a, b) for a, b in zip(first.index, second.index, strict=True)
    ) and reds(second) == list(range(42))


def test_an_index_of_other_shards_is_not_used(folder):
    TarShards(str(folder))
    write(folder / 'a-3.tar', samples([77]))
    assert reds(TarShards(str(folder))) == [*range(18), 77, *range(24, 42)]
    was = (folder / 'a-3.tar').stat()
    write(folder / 'a-3.tar', samples([78]))  # of the same size, at another time
    os.utime(folder / 'a-3.tar', ns=(was.st_atime_ns, was.st_mtime_ns + 1))
    assert (folder / 'a-3.tar').stat().st_size == was.st_size
    source = TarShards(str(folder))
    assert source.name(18) == 'a-3.tar/00078' and reds(source)[18] == 78


def test_a_damaged_index_is_made_anew(folder):
    reference = TarShards(str(folder)).index
    data = stored(folder).read_bytes()
    rng = np.random.default_rng(0)
    broken = [b'', b'text', data[: len(data) // 2]]
    for _ in range(40):
        changed = np.frombuffer(data, np.uint8).copy()
        changed[rng.integers(0, len(data), 3)] ^= rng.integers(1, 256, 3, dtype=np.uint8)
        broken.append(changed.tobytes())
    for content in broken:
        stored(folder).write_bytes(content)
        index = TarShards(str(folder)).index
        assert all(np.array_equal(a, b) for a, b in zip(index, reference, strict=True))
    assert stored(folder).read_bytes() == data


@pytest.mark.parametrize(
    ('field', 'change'),
    [
        ('offsets', lambda a: a + 10**6),
        ('offsets', lambda a: a - 10**6),
        ('offsets', lambda a: a[:-1]),
        ('offsets', lambda a: a[0]),
        ('offsets', lambda a: a.astype(float)),
        ('sizes', lambda a: a + 10**6),
        ('sizes', lambda a: -a),
        ('sizes', lambda a: a + np.int64(2**63 - 1)),
        ('counts', lambda a: a[::-1][:3]),
        ('counts', lambda a: a + [1, -1, 0, 0, 0, 0, 0]),
        ('counts', lambda a: a - [99, -99, 0, 0, 0, 0, 0]),
        ('labels', lambda a: a - 1),
        ('labels', lambda a: a + 10**9),
        ('labels', lambda a: a[1:]),
        ('ends', lambda a: a[::-1]),
        ('ends', lambda a: a + 1),
        ('suffixes', lambda a: a + 90),
        ('keys', lambda a: a[1:]),
        ('keys', lambda a: np.array([{}], dtype=object)),
    ],
)
def test_an_index_that_points_elsewhere_is_made_anew(folder, field, change):
    reference = TarShards(str(folder)).index
    with np.load(stored(folder)) as arrays:
        arrays = dict(arrays)
    arrays[field] = change(arrays[field])
    np.savez(stored(folder), **arrays)
    source = TarShards(str(folder))
    if field != 'counts' or len(arrays['counts']) != 7 or (arrays['counts'] < 0).any():
        assert all(np.array_equal(a, b) for a, b in zip(source.index, reference, strict=True))
    for i in range(42):  # never outside a shard, whatever is believed
        try:
            source.read(i)
        except UnreadableImage:
            pass


def test_a_folder_that_cannot_be_written_is_read_all_the_same(folder, monkeypatch):
    def refuse(path, write):
        raise PermissionError('read-only')

    monkeypatch.setattr(shard_index, 'atomic_write', refuse)
    assert reds(TarShards(str(folder))) == list(range(42)) and not list(folder.glob('index-*'))


# --- What is wrong with the data


def test_no_image_and_an_empty_one_are_unreadable_with_their_name(tmp_path):
    source = TarShards(
        str(
            write(
                tmp_path / 'a.tar',
                [('0.png', png(0)), ('1.png', b'text'), ('2.jpg', b''), ('3.png', png(3)[:45])],
            )
        )
    )
    for i, reason in (
        (1, "cannot identify image file 'a.tar/1'$"),
        (2, "'a.tar/2'$"),
        (3, 'truncated'),
    ):
        with pytest.raises(UnreadableImage, match=reason):
            source.read(i)
    assert source.read(0).size == (6, 6)


def test_shards_that_change_or_go_while_they_are_read(folder):
    source, late = TarShards(str(folder)), TarShards(str(folder))
    (folder / 'a-0.tar').unlink()
    write(folder / 'a-1.tar', samples([200]))
    shards._open_shard.cache_clear()
    for i, reason in ((0, 'No such file'), (6, 'has changed since the start')):
        with pytest.raises(UnreadableImage, match=reason):
            late.read(i)
    assert source.read(10).getpixel((0, 0))[0] == 10
    os.truncate(folder / 'a-2.tar', 600)  # open already
    with pytest.raises(UnreadableImage, match='has become shorter'):
        source.read(16)


def test_every_cut_is_found(tmp_path):
    path = write(tmp_path / 'a.tar', samples([1, 2]))
    data = path.read_bytes()
    end = len(data.rstrip(b'\0')) // BLOCK * BLOCK + BLOCK  # of the last file
    for size in [*range(0, end, 100), end, end + 511]:
        path.write_bytes(data[:size])
        with pytest.raises(ConfigError, match=r'the shard .*/a.tar is cut short'):
            TarShards(str(path))
        with open(path, 'rb') as file, pytest.raises(DamagedArchive):
            for _, offset, n in members(file.fileno(), size):
                assert offset + n <= size
    path.write_bytes(data[: end + BLOCK])
    assert len(TarShards(str(path))) == 2


def test_damage_to_headers_never_raises_anything_else(tmp_path):
    rng = np.random.default_rng(0)
    whole, refused = [], 0
    for kind in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        data = write(
            tmp_path / 'a.tar',
            [('d/' * 80 + 'é.png', b'1'), ('0.png', png(0)), ('0.cls', b'3')],
            format=kind,
        ).read_bytes()
        for _ in range(300):
            changed = np.frombuffer(data, np.uint8).copy()
            changed[rng.integers(0, 4000, 4)] = rng.integers(0, 256, 4)
            for start in (
                range(0, 4096, BLOCK) if rng.random() < 0.7 else ()
            ):  # with checksums that fit
                header = changed[start : start + BLOCK]
                if bytes(header[257:262]) == b'ustar':
                    header[148:156] = 32
                    header[148:156] = np.frombuffer(b'%06o\0 ' % header.sum(), np.uint8)
            (tmp_path / 'b.tar').write_bytes(changed.tobytes())
            with open(tmp_path / 'b.tar', 'rb') as file:
                try:
                    for _, offset, size in members(file.fileno(), len(data)):
                        whole.append(0 <= offset <= offset + size <= len(data))
                except DamagedArchive:
                    refused += 1
    assert refused > 100 and len(whole) > 100 and all(whole)


def test_mistakes_are_told_in_a_sentence(tmp_path, folder):
    def made(name, files, **how):
        return str(write(tmp_path / name, files, **how))

    (tmp_path / 'empty').mkdir()
    packed = made('packed/a.tar.gz', samples([1]), mode='w:gz')
    (tmp_path / 'text.tar').write_text('text' * 200)
    (tmp_path / 'two.tar').write_bytes((folder / 'a-0.tar').read_bytes() * 2)
    (tmp_path / 'few.txt').write_text('cat\ndog\n')
    (tmp_path / 'twice.txt').write_text('cat\ndog\ncat\n')
    sparse = write(tmp_path / 'sparse.tar', [('0.png', png(0))], format=tarfile.PAX_FORMAT)
    with tarfile.open(sparse, 'w') as tar:
        member = tarfile.TarInfo('0.png')
        member.pax_headers = {'GNU.sparse.major': '1'}
        tar.addfile(member)
    made('half/0.tar', samples([1]))
    made('half/1.tar', [('2.png', png(2))])
    plain = made('plain.tar', [('2.png', png(2))])
    for cfg, words in (
        (
            dict(shards=str(tmp_path / 'none')),
            'looked for the shards .*/none, but there is no .*/none;',
        ),
        (
            dict(shards=str(tmp_path / 'none-{00..11}.tar')),
            'no .*/none-00.tar, and 11 others are missing',
        ),
        (dict(shards=f'{folder}/a-{{6..7}}.tar'), r'there is no .*/a-7.tar; correct shards'),
        (dict(shards=f'{folder}/b*.tar'), r'there is no .*/b\*.tar'),
        (dict(shards=f'{folder}/{{0..99999999}}.tar'), 'more than 1,000,000 shards'),
        (dict(shards=f'{folder}/{{0..9999}}{{0..9999}}.tar'), 'more than 1,000,000 shards'),
        (
            dict(shards=str(tmp_path / 'empty')),
            r'looked for shards \(\*.tar\) in .*/empty, and found none; give',
        ),
        (
            dict(shards=str(tmp_path / 'packed')),
            'found only compressed ones, such as a.tar.gz; unpack',
        ),
        (dict(shards=packed), 'a.tar.gz is compressed with gzip'),
        (dict(shards='s3://bucket/a.tar'), 'on this machine'),
        (dict(shards='pipe:cat a.tar'), 'on this machine'),
        (dict(shards=7), 'on this machine'),
        (
            dict(shards=str(tmp_path / 'text.tar')),
            'is not an intact tar archive: there is no header at byte 0;',
        ),
        (dict(shards=str(tmp_path / 'two.tar')), 'continues after its end mark'),
        (dict(shards=str(sparse)), 'holds sparse files'),
        (dict(shards=made('other.tar', [('0.txt', b'no')])), 'and found none'),
        (
            dict(shards=made('nolabel.tar', [*samples([1, 2]), ('9.png', png(9))])),
            "for some images and not for '9'",
        ),
        (
            dict(shards=made('noimage.tar', [*samples([1]), ('9.heic', b'x'), ('9.cls', b'1')])),
            "a label and no image for '9'",
        ),
        (
            dict(shards=made('double.tar', [('0.png', png(1)), ('0.jpg', png(1))])),
            "two images with the key '0'",
        ),
        (
            dict(shards=made('word.tar', [('0.png', png(1)), ('0.cls', b'cat')])),
            "0.cls in the shard .* holds b'cat', but a label is",
        ),
        (dict(shards=made('minus.tar', [('0.png', png(1)), ('0.cls', b'-1')])), "holds b'-1'"),
        (
            dict(shards=made('large.tar', [('0.png', png(1)), ('0.cls', b'100000')])),
            'from 0 to 99,999',
        ),
        (
            dict(shards=str(tmp_path / 'half')),
            'images in .*/half/0.tar have labels .*, and those in .*/half/1.tar have none',
        ),
        (dict(shards=str(folder), window=0), 'window=0'),
        (dict(shards=str(folder), window=2.5), 'window=2.5'),
        (dict(shards=str(folder), classes=str(tmp_path / 'none.txt')), 'no such file'),
        (
            dict(shards=str(folder), classes=str(tmp_path / 'few.txt')),
            'names 2 classes in 2 lines, and the labels go from 0 to 2',
        ),
        (
            dict(shards=str(folder), classes=str(tmp_path / 'twice.txt')),
            'names 2 classes in 3 lines',
        ),
        (dict(shards=plain, classes=str(tmp_path / 'few.txt')), 'leave classes out'),
    ):
        with pytest.raises(ConfigError, match=words) as caught:
            build_source(dict(type='TarShards', **cfg))
        assert '\n' not in str(caught.value) and 'cannot be built' not in str(caught.value), str(
            caught.value
        )
