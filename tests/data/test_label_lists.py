"""Lists of labelled images: drawn lists, SimCLR's official lists, lists in text files."""

import hashlib
import http.server
import os
import random
import socket
import threading

import numpy as np
import pytest
import torch

from ssl_zoo.data import label_lists as module
from ssl_zoo.data.label_lists import (
    OFFICIAL,
    draw_labels,
    is_imagenet,
    official_list,
    read_list,
    write_list,
)
from ssl_zoo.data.random import mix, permutation
from ssl_zoo.data.sources import Subset
from ssl_zoo.errors import ConfigError, MissingData

pytestmark = pytest.mark.quick


def of_sizes(named_source, *sizes):
    """A source with these numbers of images of each class, mixed."""
    labels = np.repeat(np.arange(len(sizes)), sizes)
    labels = labels[np.random.default_rng(7).permutation(sum(sizes))]
    names = [f'class_{label}/{i}.png' for i, label in enumerate(labels)]
    return named_source(names, labels, [f'class_{c}' for c in range(len(sizes))])


@pytest.fixture
def equal(named_source):
    """Ten classes of 20 images."""
    return of_sizes(named_source, *[20] * 10)


@pytest.fixture
def unequal(named_source):
    """Classes of 3, 200, 40 and 7 images."""
    return of_sizes(named_source, 3, 200, 40, 7)


@pytest.fixture
def two_classes(named_source):
    """Two classes of 5 images."""
    return of_sizes(named_source, 5, 5)


@pytest.fixture
def folders(named_source):
    """Names whose last parts are not unique."""
    return named_source(['cat/1.png', 'cat/2.png', 'dog/1.png', 'dog/3.png'], [0, 0, 1, 1])


@pytest.fixture
def unique(named_source):
    """Names whose last parts are unique, as in ImageNet."""
    names = ['n02/n02_7.JPEG', 'n01/n01_7.JPEG', 'n01/deep/n01_9.JPEG']
    return named_source(names, [1, 0, 0])


@pytest.fixture
def source(request):
    """The fixture that a parameter names."""
    return request.getfixturevalue(request.param)


def slow_draw(labels, n, seed, share):
    """Classes give their images in the order of the permutation, one each at first.

    For a share, the next image is of the class that is furthest below its share of the images
    (Sainte-Lague); else classes take turns.
    """
    order = permutation(len(labels), mix(3, seed)).tolist()
    sizes = np.bincount(labels)
    waiting = {y: [i for i in order if labels[i] == y] for y in set(labels.tolist())}
    given = dict.fromkeys(waiting, 0)

    def place(y):
        ratio = (given[y] + 0.5) / sizes[y] if share and given[y] else given[y]
        return ratio, order.index(waiting[y][0])

    chosen = []
    while len(chosen) < n:
        y = min((y for y in waiting if waiting[y]), key=place)
        chosen.append(waiting[y].pop(0))
        given[y] += 1
    return sorted(chosen)


@pytest.mark.parametrize(
    ('source', 'labels', 'n'),
    [
        ('equal', '5%', 10),
        ('equal', '10%', 20),
        ('equal', '17.5%', 35),
        ('equal', '100%', 200),
        ('equal', '3-per-class', 30),
        ('equal', '20-per-class', 200),
        ('equal', '7%', 14),
        ('equal', '07.%', 14),
        ('unequal', '2%', 5),
        ('unequal', '10%', 25),
        ('unequal', '50%', 125),
        ('unequal', '3-per-class', 12),
        ('two_classes', '33.3%', 3),
        ('two_classes', '25%', 2),
    ],
    indirect=['source'],
)
def test_a_draw_has_its_size_and_equals_a_slow_one(source, labels, n):
    for seed in (0, 1, 2**40):
        drawn = draw_labels(source, labels, seed)
        expected = slow_draw(source.labels, n, seed, labels.endswith('%'))
        assert drawn.dtype == np.int64 and drawn.tolist() == expected


def test_lists_stay_what_they_are_from_release_to_release(tmp_path, named_source):
    source = named_source([f'{i % 10}/{i}.png' for i in range(200)], np.arange(200) % 10)
    assert draw_labels(source, '1-per-class', 0).tolist() == [
        26,
        75,
        83,
        94,
        101,
        118,
        139,
        142,
        147,
        170,
    ]
    assert (
        write_list(tmp_path / 'list.txt', source, draw_labels(source, '10%', 5))[:32]
        == '6ed893127a347ae5292cc798a1969f40'
    )


@pytest.mark.parametrize('source', ['equal', 'unequal'], indirect=['source'])
@pytest.mark.parametrize(
    'choices',
    [
        ['1-per-class', '2-per-class', '3-per-class'],
        ['1-per-class', '5%', '10%', '22%', '50%', '99%', '100%'],
    ],
)
def test_with_one_seed_smaller_choices_lie_within_larger_ones(source, choices):
    for seed in range(3):
        sets = [set(draw_labels(source, labels, seed).tolist()) for labels in choices]
        assert sorted(map(len, sets)) == list(map(len, sets)) and len(set(map(len, sets))) >= 3
        assert all(small <= large for small, large in zip(sets, sets[1:], strict=False))


def test_a_share_has_the_classes_in_proportion_and_none_is_missing(equal, unequal):
    for n in range(10, 201):
        counts = np.bincount(equal.labels[draw_labels(equal, f'{n / 2}%', 3)], minlength=10)
        assert counts.sum() == n and counts.max() - counts.min() <= 1
    sizes = np.bincount(unequal.labels)
    for n in range(4, 251):
        counts = np.bincount(unequal.labels[draw_labels(unequal, f'{n / 2.5}%', 3)], minlength=4)
        assert counts.sum() == n and counts.min() >= 1
        assert (np.abs(counts - n * sizes / 250) <= 3).all(), (
            counts
        )  # three small classes have one in any case


def test_a_draw_depends_on_seed_and_data_alone(monkeypatch, named_source, equal):
    expected = draw_labels(equal, '10%', 0)
    for i in range(3):
        torch.manual_seed(i)
        np.random.seed(i)
        random.seed(i)
        assert draw_labels(equal, '10%', 0).tolist() == expected.tolist()
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    draw_labels(equal, '10%', 0)
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1:] == (np.random.get_state()[1].tolist(), random.getstate())
    renamed = named_source(
        [f'{i}.png' for i in range(200)], equal.labels
    )  # names and class names do not count, labels do
    assert draw_labels(renamed, '10%', 0).tolist() == expected.tolist()
    assert (
        draw_labels(
            named_source(equal.names, (equal.labels + np.arange(200)) % 10), '10%', 0
        ).tolist()
        != expected.tolist()
    )


def test_other_seeds_draw_others(equal):
    draws = [tuple(draw_labels(equal, '10%', seed).tolist()) for seed in range(50)]
    assert len(set(draws)) == 50
    overlap = np.mean([len(set(a) & set(b)) for a, b in zip(draws, draws[1:], strict=False)])
    assert overlap == pytest.approx(2, abs=0.7)  # 20 of 200, twice: 2 in common by chance


def test_a_share_of_imagenets_size_is_rounded(named_source):
    source = named_source(range(12_812), np.arange(12_812) % 1000)
    assert [len(draw_labels(source, labels, 0)) for labels in ('10%', '7.81%', '99.999%')] == [
        1281,
        1001,
        12_812,
    ]


def test_classes_without_images_count_for_nothing(named_source):
    source = named_source('abcdef', [0, 0, 5, 5, 9, 9])
    assert source.labels[draw_labels(source, '1-per-class', 0)].tolist() == [0, 5, 9]
    assert sorted(source.labels[draw_labels(source, '50%', 0)]) == [0, 5, 9]


@pytest.mark.parametrize(
    'labels',
    [
        '0%',
        '0.0%',
        '200%',
        '100.01%',
        '-1%',
        '5',
        '0.1',
        'x-per-class',
        '0-per-class',
        '-3-per-class',
        '',
        '%',
        '.%',
        '1 %',
        ' 1%',
        '1%\n',
        'nan%',
        'inf%',
        '1e1%',
        '1_0%',
        '1%%',
        '4-per-clas',
        '1.5-per-class',
        '4 per class',
        '1' + '0' * 400 + '%',
    ],
)
def test_labels_in_no_known_form_are_answered_with_the_forms(labels, equal):
    with pytest.raises(ConfigError) as error:
        draw_labels(equal, labels, 0)
    assert str(error.value) == (
        f'--labels {labels!r} is neither a share above 0% and up to 100%, such as 1% or 10%, '
        f'nor a number such as 4-per-class'
    )


@pytest.mark.parametrize(
    ('source', 'labels', 'words'),
    [
        (
            'equal',
            '4%',
            '4% of 200 images are 8, fewer than the 10 classes; ask for more, such as 1-per-class',
        ),
        ('equal', '0.01%', 'are 0, fewer than the 10 classes'),
        (
            'equal',
            '21-per-class',
            '21-per-class, but the smallest class has 20 images; ask for at most 20-per-class',
        ),
        ('unequal', '4-per-class', '4-per-class, but the smallest class has 3 images'),
    ],
    indirect=['source'],
)
def test_too_few_and_too_many_labels_are_told_in_numbers(source, labels, words):
    with pytest.raises(ConfigError) as error:
        draw_labels(source, labels, 0)
    assert words in str(error.value)


# --- Lists in files

ODD = [
    'with space/a b  c.png',
    ' leading.png',
    'trailing .png',
    'ümlaut/日本.png',
    'tab\there.png',
    'quo\'te".png',
    '#comment.png',
    '50%.png',
    os.fsdecode(b'caf\xe9/\xff\xfe.png'),
    'back\\slash.png',
    'line\u2028separator.png',
    'form\x0cfeed.png',
    '\x85next.png',
]


def test_a_list_reads_as_it_was_written_whatever_the_names(tmp_path, named_source):
    source = named_source(ODD, np.zeros(len(ODD)))
    for chosen in (np.arange(len(ODD)), np.array([1, 8]), np.array([8])):
        digest = write_list(tmp_path / 'deep' / 'list.txt', source, chosen)
        content = (tmp_path / 'deep' / 'list.txt').read_bytes()
        assert digest == hashlib.sha256(content).hexdigest()
        assert content == b''.join(os.fsencode(ODD[i]) + b'\n' for i in chosen)
        assert read_list(tmp_path / 'deep' / 'list.txt', source).tolist() == chosen.tolist()


def write(path, text, encoding='utf-8'):
    path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
    return path


@pytest.mark.parametrize(
    ('source', 'text', 'expected'),
    [
        ('folders', 'dog/3.png\ncat/1.png\n', [0, 3]),
        ('folders', 'dog/1.png', [2]),
        ('folders', '\n\ncat/2.png\n\n', [1]),
        ('folders', 'dog/3.png\r\ncat/1.png\r\n', [0, 3]),
        ('folders', 'dog/3.png\r\n\r\ncat/1.png', [0, 3]),
        ('folders', b'\xef\xbb\xbfdog/3.png\r\ncat/1.png\r\n', [0, 3]),
        ('unique', 'n01_9.JPEG\nn02_7.JPEG\n', [0, 2]),
        ('unique', 'n01_9.JPEG\r\nn02_7.JPEG\r\n', [0, 2]),
        ('unique', 'n01/deep/n01_9.JPEG\nn02/n02_7.JPEG\n', [0, 2]),
    ],
    indirect=['source'],
)
def test_names_are_those_of_the_data_set_or_file_names_alone_in_any_order(
    tmp_path, source, text, expected
):
    found = read_list(write(tmp_path / 'list.txt', text), source)
    assert found.dtype == np.int64 and found.tolist() == expected


@pytest.mark.parametrize(
    ('source', 'text', 'words'),
    [
        (
            'folders',
            'cat/1.png\ndog/1.png\ncat/1.png\n',
            'list.txt names 1 images twice; every image counts once',
        ),
        ('unique', 'n01_9.JPEG\nn01_9.JPEG', 'names 1 images twice'),
        (
            'folders',
            'cat/1.png\ncat/9.png\ndog/9.png\n',
            "2 of 3 names in the list .*list.txt are not in the data set, the first is 'cat/9.png'"
            "; its 4 images have names such as 'cat/1.png'",
        ),
        (
            'folders',
            'cat/1.png \n',
            "file names alone its images cannot be told apart; give names such as 'cat/1.png'",
        ),
        (
            'folders',
            '3.png\n',
            "names '3.png', which is not in the data set under that name, and by file names alone",
        ),
        ('folders', 'cat/1.png\n3.png\n', "1 of 2 names in the list .* the first is '3.png'"),
        (
            'unique',
            'n01_9.JPEG\nn02/n02_7.JPEG\n',
            "1 of 2 names in the list .* the first is 'n02/n02_7.JPEG'",
        ),
        ('unique', 'N01_9.JPEG\n', "1 of 1 names in the list .* the first is 'N01_9.JPEG'"),
        ('unique', 'n01_9.JPEG\t0\n', '1 of 1 names'),
        ('unique', 'n01_9.JPEG\rn02_7.JPEG\r', '1 of 1 names'),
        ('folders', b'', 'the list .*list.txt is empty; it needs one image per line'),
        ('folders', '\n\r\n\n', 'is empty'),
        ('folders', b'\xef\xbb\xbf', 'is empty'),
    ],
    indirect=['source'],
)
def test_lists_that_do_not_fit_the_data_get_a_sentence(tmp_path, source, text, words):
    with pytest.raises(ConfigError, match=words):
        read_list(write(tmp_path / 'list.txt', text), source)


@pytest.mark.parametrize(
    'content',
    ['cat/1.png\n'.encode('utf-16'), b'\x89PNG\r\n\x1a\n\x00\xff\xfe', b'\xe9\n', b'\x00'],
)
def test_what_is_no_list_gets_a_sentence_that_can_be_printed(tmp_path, content, unique):
    with pytest.raises(ConfigError, match='list.txt') as error:
        read_list(write(tmp_path / 'list.txt', content), unique)
    assert str(error.value).encode() and '\n' not in str(error.value)


def test_a_list_that_is_not_there_or_is_a_folder_gets_a_sentence(tmp_path, monkeypatch, folders):
    with pytest.raises(
        MissingData,
        match=f'looked for a list of labelled images at {tmp_path}/none.txt, but there is no such',
    ):
        read_list(tmp_path / 'none.txt', folders)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingData, match=f'at {tmp_path}/none.txt'):
        read_list('none.txt', folders)
    (tmp_path / 'a file').write_text('cat/1.png')
    for path in (tmp_path, tmp_path / 'a file' / 'list.txt'):
        with pytest.raises(ConfigError, match=f'the list {path} cannot be read: '):
            read_list(path, folders)


def test_positions_are_those_of_a_part_of_the_data(tmp_path, folders):
    part = Subset(folders, np.array([3, 1]))
    assert read_list(write(tmp_path / 'list.txt', 'dog/3.png\n'), part).tolist() == [0]
    assert read_list(write(tmp_path / 'list.txt', '2.png\n'), part).tolist() == [
        1
    ]  # now file names tell them apart
    with pytest.raises(ConfigError, match='1 of 1 names'):
        read_list(write(tmp_path / 'list.txt', 'cat/1.png\n'), part)


# --- SimCLR's lists


def test_imagenet_is_told_by_its_thousand_classes(named_source):
    classes = [f'n{i:08d}' for i in range(1000)]
    assert is_imagenet(named_source([], classes=classes))
    for other in (
        classes[:999],
        [*classes, 'n99999999'],
        [*classes[:999], 'tench'],
        [*classes[:999], 'n1'],
        [*classes[:999], 'n123456789'],
        [str(i) for i in range(1000)],
        [],
        None,
    ):
        assert not is_imagenet(named_source([], classes=other))


def test_the_digests_are_those_of_simclrs_files():
    assert {
        labels: (name, digest[:8], len(digest)) for labels, (name, digest) in OFFICIAL.items()
    } == {'1%': ('1percent.txt', '71e82a48', 64), '10%': ('10percent.txt', '6d09de11', 64)}
    assert (
        module.ADDRESS
        == 'https://raw.githubusercontent.com/google-research/simclr/master/imagenet_subsets/'
    )


TEXT = b'n02_7.JPEG\nn01_9.JPEG\n'


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A folder with both lists, as published: (the folder, its address)."""
    monkeypatch.setenv('no_proxy', '*')
    folder = tmp_path / 'published'
    folder.mkdir()
    for labels, text in (('1%', TEXT), ('10%', TEXT + b'n01_7.JPEG\n')):
        name = OFFICIAL[labels][0]
        (folder / name).write_bytes(text)
        monkeypatch.setitem(OFFICIAL, labels, (name, hashlib.sha256(text).hexdigest()))
    return folder, f'{folder.as_uri()}/'


def test_an_official_list_is_fetched_once_and_kept(published, tmp_path, monkeypatch, unique):
    folder, address = published
    path = official_list('1%', tmp_path / 'not' / 'yet', address)
    assert path == tmp_path / 'not' / 'yet' / 'simclr_1percent.txt' and path.read_bytes() == TEXT
    assert read_list(official_list('10%', tmp_path / 'not' / 'yet', address), unique).tolist() == [
        0,
        1,
        2,
    ]
    (folder / '1percent.txt').unlink()
    monkeypatch.setattr(
        torch.hub, 'download_url_to_file', lambda *_, **__: pytest.fail('fetched again')
    )
    assert official_list('1%', tmp_path / 'not' / 'yet', address).read_bytes() == TEXT


def test_official_lists_are_kept_in_the_users_cache(published, tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    assert (
        official_list('1%', address=published[1])
        == tmp_path / 'cache' / 'ssl_zoo' / 'simclr_1percent.txt'
    )
    for value in (None, ''):
        monkeypatch.delenv('XDG_CACHE_HOME') if value is None else monkeypatch.setenv(
            'XDG_CACHE_HOME', value
        )
        monkeypatch.setenv('HOME', str(tmp_path / f'home{value}'))
        assert (
            official_list('1%', address=published[1])
            == tmp_path / f'home{value}' / '.cache' / 'ssl_zoo' / 'simclr_1percent.txt'
        )


def test_a_list_with_another_digest_is_refused_and_not_kept(published, tmp_path):
    folder, address = published
    for content in (TEXT + b'x', TEXT[:-1], b'', b'<html>404</html>'):
        (folder / '1percent.txt').write_bytes(content)
        with pytest.raises(
            MissingData,
            match=f'could not fetch the official list {address}1percent.txt .*with --list',
        ):
            official_list('1%', tmp_path / 'kept', address)
        assert list((tmp_path / 'kept').iterdir()) == []
    (folder / '1percent.txt').write_bytes(TEXT)
    path = official_list('1%', tmp_path / 'kept', address)
    path.write_bytes(TEXT.upper())  # somebody edits what is kept
    with pytest.raises(
        MissingData, match=f'{path} is not the official list: its SHA-256 is .*; remove it'
    ):
        official_list('1%', tmp_path / 'kept', address)


class _Server:
    """A server on this machine that answers ``content`` to everything and counts."""

    def __enter__(self):
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                server.paths.append(self.path)
                self.send_response(server.status)
                self.send_header('Content-Length', str(len(server.content) + server.missing))
                self.end_headers()
                self.wfile.write(server.content)

            def log_message(self, *_):
                pass

        self.paths, self.content, self.status, self.missing = [], TEXT, 200, 0
        self.server = http.server.HTTPServer(('127.0.0.1', 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        self.address = f'http://127.0.0.1:{self.server.server_port}/lists/'
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def test_a_server_is_asked_once_and_what_goes_wrong_there_is_told_with_the_address(
    published, tmp_path
):
    with _Server() as server:
        for status, content, missing in (
            (404, b'no', 0),
            (500, b'', 0),
            (200, TEXT[:5], len(TEXT) - 5),
        ):
            server.status, server.content, server.missing = status, content, missing
            with pytest.raises(MissingData, match=f'{server.address}1percent.txt'):
                official_list('1%', tmp_path / 'kept', server.address)
            assert list((tmp_path / 'kept').iterdir()) == []
        server.status, server.content, server.missing, server.paths = 200, TEXT, 0, []
        for _ in range(3):
            assert official_list('1%', tmp_path / 'kept', server.address).read_bytes() == TEXT
        assert server.paths == ['/lists/1percent.txt']


def test_without_a_network_the_address_is_named(published, tmp_path):
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))  # bound, but it does not listen
        address = f'http://127.0.0.1:{free.getsockname()[1]}/'
        with pytest.raises(
            MissingData,
            match=rf'could not fetch the official list {address}10percent.txt \(.*refused.*\); '
            rf'fetch it by hand and give it with --list',
        ):
            official_list('10%', tmp_path, address)


def test_an_answer_that_is_not_http_is_told_too(published, tmp_path):
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        listener.listen()

        def answer():
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b'\r\nSSH-2.0-OpenSSH\r\n')

        threading.Thread(target=answer, daemon=True).start()
        address = f'http://127.0.0.1:{listener.getsockname()[1]}/'
        with pytest.raises(
            MissingData, match=f'could not fetch the official list {address}1percent.txt'
        ):
            official_list('1%', tmp_path, address)


def test_a_cache_that_cannot_be_written_is_told(published, tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(MissingData, match='give it with --list'):
        official_list('1%', tmp_path / 'file' / 'cache', published[1])
