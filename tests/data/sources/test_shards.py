"""TarShards: images and labels of archives of all kinds, the order of an epoch, changing files."""

import os
import pickle
import tarfile
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from ssl_zoo.data.loader import train_loader
from ssl_zoo.data.random import permutation
from ssl_zoo.data.sources import Joined, Subset, build_source, shards
from ssl_zoo.data.sources.arrays import Arrays
from ssl_zoo.data.sources.folder import ImageFolder
from ssl_zoo.data.sources.shards import TarShards
from ssl_zoo.data.sources.write_shards import write_shards
from ssl_zoo.data.splits import hold_out
from ssl_zoo.data.stream_sampler import StreamSampler, order_of
from ssl_zoo.data.view_dataset import ViewDataset
from ssl_zoo.data.views import View
from ssl_zoo.errors import ConfigError, UnreadableImage

pytestmark = pytest.mark.quick


def test_images_labels_and_bytes_are_those_of_the_folder(image_folder, tmp_path, write_tar):
    """Of CIFAR-10 where its folders lie in data/, of the fixture's images elsewhere."""
    cifar = Path(__file__).parents[2] / 'data' / 'cifar10' / 'test'
    source = (
        build_source(dict(type='ImageFolder', root=str(cifar), limit=300))
        if cifar.is_dir()
        else ImageFolder(str(image_folder()))
    )
    n = len(source)
    for number, part in enumerate(np.array_split(np.arange(n), 5)):
        write_tar(
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


def test_members_in_any_order_of_other_kinds_and_in_folders(tmp_path, png, write_tar, reds):
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
        path = write_tar(tmp_path / f'{number}.tar', files, format=kind)
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
    path = write_tar(
        tmp_path / 'u.tar',
        [('p' * 90 + '/' + 'q' * 90 + '.png', png(5))],
        format=tarfile.USTAR_FORMAT,
    )
    source = TarShards(str(path))
    assert source.name(0) == 'u.tar/' + 'p' * 90 + '/' + 'q' * 90 and reds(source) == [5]
    assert source.labels is None and source.classes is None


def test_names_with_dots_are_keys_where_no_suffix_follows_the_first_dot(
    tmp_path, png, write_tar, reds
):
    files = [
        ('2024.05.07_cam1.png', png(1)),
        ('2024.05.07_cam1.cls', b'3'),
        ('day/v1.2.PNG', png(2)),
        ('day/v1.2.CLS', b'0'),
        ('7.png', png(3)),
        ('7.cls', b'1'),
        ('7.mask.png', png(9)),
        ('7.old.cls', b'5'),
        ('7.json', b'{}'),
        ('2024.05.07_cam1.json', b'{}'),
    ]
    path = write_tar(tmp_path / 'a.tar', files)
    write_tar(tmp_path / 'b.tar', [('8.9.png', png(4)), ('8.9.cls', b'2'), ('a.json', b'')])
    for _ in range(2):  # the second time from the stored index
        source = TarShards(str(tmp_path))
        assert reds(source) == [1, 2, 3, 4] and source.labels.tolist() == [3, 0, 1, 2]
        names = [source.name(i) for i in range(4)]
        assert names == ['a.tar/2024.05.07_cam1', 'a.tar/day/v1.2', 'a.tar/7', 'b.tar/8.9']
        assert source.notes == (
            f'{tmp_path}: 4 images; 5 other files left out: 3 .json, 1 .mask.png, 1 .old.cls',
        )
    assert TarShards(str(path)).encoded(1) == ('.png', png(2))


def test_shards_without_images_among_others(shard_folder, write_tar, reds):
    for name in ('a-', 'a-2x', 'z'):
        write_tar(shard_folder / f'{name}.tar', [('notes.txt', b'no')])
    source = TarShards(str(shard_folder), window=2)
    assert (
        reds(source) == list(range(42))
        and source.name(9) == 'a-2.tar/00009'
        and sorted(source.order(0, 0)) == list(range(42))
    )


def test_workers_pickles_and_threads_read_the_same(shard_folder, monkeypatch, reds):
    source = TarShards(str(shard_folder))
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


def test_few_shards_are_open_at_a_time(tmp_path, samples, write_tar, reds):
    for number in range(shards.OPEN_SHARDS + 20):
        write_tar(tmp_path / f'{number:03d}.tar', samples([number]))
    before = len(os.listdir('/proc/self/fd'))
    assert reds(TarShards(str(tmp_path))) == list(range(shards.OPEN_SHARDS + 20))
    assert len(os.listdir('/proc/self/fd')) <= before + shards.OPEN_SHARDS


def test_the_order_is_a_permutation_that_only_epoch_and_seed_change(shard_folder):
    source, again = TarShards(str(shard_folder), window=2), TarShards(str(shard_folder), window=2)
    orders = [source.order(epoch, seed) for epoch in range(3) for seed in range(2)]
    assert all(sorted(order) == list(range(42)) and order.dtype == np.int64 for order in orders)
    assert len({tuple(order) for order in orders}) == 6
    assert np.array_equal(orders[3], again.order(1, 1))


def test_few_shards_are_read_from_at_a_time(shard_folder):
    shard, at = np.repeat(np.arange(7), [6, 3, 9, 6, 8, 4, 6]), np.arange(42)
    for window in (1, 2, 3, 6):
        source, neighbours = TarShards(str(shard_folder), window=window), set()
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
    alone = TarShards(str(shard_folder), window=1).order(0, 0)
    assert any(np.any(np.diff(alone[shard[alone] == s]) < 0) for s in range(7))


def test_a_window_of_all_shards_gives_the_order_of_a_folder(shard_folder):
    assert np.array_equal(TarShards(str(shard_folder), window=7).order(2, 5), permutation(42, 5, 2))


def test_subsets_keep_the_order_of_their_source(shard_folder):
    source = TarShards(str(shard_folder), window=2)
    stay, _ = hold_out(source, 10)
    part = Subset(source, stay)
    order = source.order(1, 3)
    assert stay[part.order(1, 3)].tolist() == [i for i in order if i in set(stay)]
    inner = Subset(part, np.arange(0, len(part), 2))
    assert stay[::2][inner.order(1, 3)].tolist() == [i for i in order if i in set(stay[::2])]
    twice = Subset(source, np.array([5, 5, 40, 0]))
    assert sorted(twice.order(0, 0)) == [0, 1, 2, 3]


def test_other_sources_keep_the_order_they_had(digits):
    part = Subset(digits, np.arange(5, 90, 3))
    for other in (digits, part, Subset(part, np.array([3, 1, 2])), Joined(digits, part)):
        for epoch, seed in ((0, 0), (3, 1)):
            assert np.array_equal(other.order(epoch, seed), permutation(len(other), seed, epoch))
            assert np.array_equal(other.order(epoch, seed), order_of(epoch, len(other), seed))


def test_a_stream_from_the_middle_goes_on_as_the_straight_one(shard_folder):
    source = TarShards(str(shard_folder), window=2)
    order = partial(source.order, seed=4)
    straight = list(StreamSampler(42, 5, order, stop=20))
    assert list(StreamSampler(42, 5, order, start=11, stop=20)) == straight[11:]
    dataset = ViewDataset(source, [View(6)], 4)
    assert [b['index'].tolist() for b in train_loader(dataset, 5, 0, start=11, stop=20)] == [
        [i for _, i in b] for b in straight[11:]
    ]


def test_two_processes_with_two_workers_each_share_an_epoch(shard_folder):
    """Each process takes its half of every batch of the one stream."""
    source = TarShards(str(shard_folder), window=2)
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


def test_no_image_and_an_empty_one_are_unreadable_with_their_name(tmp_path, png, write_tar):
    source = TarShards(
        str(
            write_tar(
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


def test_shards_that_change_or_go_while_they_are_read(shard_folder, samples, write_tar):
    source, late = TarShards(str(shard_folder)), TarShards(str(shard_folder))
    (shard_folder / 'a-0.tar').unlink()
    write_tar(shard_folder / 'a-1.tar', samples([200]))
    shards._open_shard.cache_clear()
    for i, reason in ((0, 'No such file'), (6, 'has changed since the start')):
        with pytest.raises(UnreadableImage, match=reason):
            late.read(i)
    assert source.read(10).getpixel((0, 0))[0] == 10
    os.truncate(shard_folder / 'a-2.tar', 600)  # open already
    with pytest.raises(UnreadableImage, match='has become shorter'):
        source.read(16)


def test_class_names_are_read_beside_the_shards(shard_folder, tmp_path, samples, write_tar):
    source = TarShards(str(shard_folder))
    assert source.classes == ['0', '1', '2'] and source.classes_are_numbers
    (shard_folder / 'classes.txt').write_bytes(b'ant\r\n\xff\xc2\x85\ncat\nlast')
    for pattern in (shard_folder, f'{shard_folder}/a-[12].tar', shard_folder / 'a-3.tar'):
        source = TarShards(str(pattern))
        assert source.classes == ['ant', '\udcff\x85'.strip(), 'cat', 'last']
        assert not source.classes_are_numbers
    assert Subset(source, np.array([0])).classes_are_numbers is False
    write_tar(tmp_path / 'more' / 'a.tar', samples([1]))
    both = dict(type='TarShards', shards=f'{tmp_path}/{{shards,more}}/*.tar')
    for text in (None, 'cat\nant\nx\n'):
        if text:
            (tmp_path / 'more' / 'classes.txt').write_text(text)
        with pytest.raises(ConfigError, match='classes.txt does not name the same'):
            build_source(both)


@pytest.mark.parametrize(
    ('shards', 'arguments', 'words'),
    [
        ('shards', dict(window=0), 'window=0'),
        ('shards', dict(window=2.5), 'window=2.5'),
        ('shards', dict(classes='none.txt'), 'no such file'),
        (
            'shards',
            dict(classes='few.txt'),
            'names 2 classes in 2 lines, and the labels go from 0 to 2',
        ),
        ('shards', dict(classes='twice.txt'), 'names 2 classes in 3 lines'),
        ('plain.tar', dict(classes='few.txt'), 'leave classes out'),
    ],
)
def test_windows_and_class_names_that_do_not_fit(
    tmp_path, monkeypatch, shard_folder, write_tar, png, refusal, shards, arguments, words
):
    write_tar(tmp_path / 'plain.tar', [('2.png', png(2))])
    (tmp_path / 'few.txt').write_text('cat\ndog\n')
    (tmp_path / 'twice.txt').write_text('cat\ndog\ncat\n')
    monkeypatch.chdir(tmp_path)
    refusal(dict(type='TarShards', shards=shards, **arguments), words)


def test_images_without_label_keep_none(tmp_path):
    images = np.zeros((4, 4, 4, 3), np.uint8)
    write_shards(Arrays(images, [0, -1, 1, -1]), tmp_path / 'shards', 3, in_order=True)
    for _ in range(2):  # the second time from the stored index
        source = TarShards(str(tmp_path / 'shards'))
        assert source.labels.tolist() == [0, -1, 1, -1] and source.classes == ['0', '1']
