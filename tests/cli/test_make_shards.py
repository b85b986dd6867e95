"""make-shards: contents and order of the shards, equal bytes, stopped calls, mistakes."""

import importlib
import json
import os
import re
import signal
import subprocess
import sys
import tarfile

import numpy as np
import pytest

from ssl_zoo.data.random import permutation
from ssl_zoo.data.sources.arrays import Digits
from ssl_zoo.data.sources.file_list import FileList
from ssl_zoo.data.sources.folder import ImageFolder, Images
from ssl_zoo.data.sources.shards import TarShards


@pytest.fixture
def tool(root):
    tool = importlib.import_module('ssl_zoo.cli.make_shards')
    return tool


@pytest.fixture
def make(tool, tmp_path, capsys):
    """Function: run the command; returns exit code, stdout, and stderr without progress bars."""

    def call(source, *arguments, out='out'):
        code = tool.main([repr(source), str(tmp_path / out), *map(str, arguments)])
        said = capsys.readouterr()
        return (
            code,
            said.out,
            '\n'.join(line for line in said.err.splitlines() if line and 'images/s' not in line),
        )

    return call


def contents(folder):
    return {
        path.name: path.read_bytes()
        for path in folder.iterdir()
        if not path.name.startswith('index-')
    }


def assert_same_images(shards, source, order):
    assert len(shards) == len(source)
    for i, j in enumerate(order):
        assert np.array_equal(np.asarray(shards.read(i)), np.asarray(source.read(j)))
        assert shards.name(i).split('/')[-1] == f'{j:09d}'
    if source.labels is None:
        assert shards.labels is None
    else:
        assert shards.labels.tolist() == source.labels[order].tolist()


def test_a_folder_shuffled_and_in_order(image_folder, make, tmp_path):
    root = image_folder()
    (root / 'class_2' / '7.png').rename(
        root / 'class_2' / '7.jpeg'
    )  # bytes and suffix are kept, whatever they are
    cfg, source = dict(type='ImageFolder', root=str(root)), ImageFolder(str(root))
    code, out, err = make(cfg, '--per-shard', 10)
    assert code == 0 and not err
    names = [f'shard-00000{i}.tar' for i in range(3)]
    assert sorted(contents(tmp_path / 'out')) == ['classes.txt', *names, 'shards.json']
    shards = TarShards(str(tmp_path / 'out'))
    assert out == (
        f"24 images in 3 shards; a config reads them with dict(type='TarShards', "
        f"shards='{tmp_path / 'out'}')\n"
    )
    assert_same_images(shards, source, permutation(24, 0))
    assert shards.classes == source.classes
    assert [shards.encoded(i) for i in range(24)] == [source.encoded(j) for j in permutation(24, 0)]
    assert shards.index.counts.tolist() == [10, 10, 4]
    assert make(cfg, '--per-shard', 24, '--in-order', out='straight')[0] == 0
    assert_same_images(TarShards(str(tmp_path / 'straight')), source, np.arange(24))


def test_sets_in_memory_become_png_and_unlabelled_ones_have_no_labels(image_folder, make, tmp_path):
    assert make(dict(type='Digits', split='val'), '--per-shard', 100)[0] == 0
    assert_same_images(TarShards(str(tmp_path / 'out')), Digits('val'), permutation(180, 0))
    root = image_folder()
    assert make(dict(type='Images', root=str(root)), out='plain')[0] == 0
    assert_same_images(TarShards(str(tmp_path / 'plain')), Images(str(root)), permutation(24, 0))
    assert not (tmp_path / 'plain' / 'classes.txt').exists()


def test_numbers_get_no_names_and_names_fit_on_lines(image_folder, make, tmp_path):
    root = image_folder()
    (root / 'list.txt').write_text('class_0/0.png 1\nclass_2/1.png 0\n')
    assert make(dict(type='FileList', path=str(root / 'list.txt')))[0] == 0
    assert not (tmp_path / 'out' / 'classes.txt').exists()
    (root / 'class_1').rename(root / 'class\n_1')
    code, _, err = make(dict(type='ImageFolder', root=str(root)), out='lines')
    assert code == 2 and "the class 'class\\n_1' has no name that fits on a line" in err
    assert not (tmp_path / 'lines' / 'shard-000000.tar').exists()


def test_limits_lists_and_shards_as_sources(image_folder, make, tmp_path):
    root = image_folder()
    (root / 'class_0' / '0.png').rename(
        root / 'odd.name'
    )  # a file without an image suffix becomes PNG
    (root / 'list.txt').write_text('odd.name\nclass_1/1.png\n')
    assert make(dict(type='FileList', path=str(root / 'list.txt')), out='list')[0] == 0
    assert_same_images(
        TarShards(str(tmp_path / 'list')), FileList(str(root / 'list.txt')), permutation(2, 0)
    )
    assert make(dict(type='ImageFolder', root=str(root), limit=6), '--in-order', out='six')[0] == 0
    six = TarShards(str(tmp_path / 'six'))
    assert np.bincount(six.labels).tolist() == [2, 2, 2]
    assert (
        make(dict(type='TarShards', shards=str(tmp_path / 'six')), '--in-order', out='again')[0]
        == 0
    )
    assert [six.encoded(i) for i in range(6)] == [
        TarShards(str(tmp_path / 'again')).encoded(i) for i in range(6)
    ]


def test_archives_are_plain_and_say_nothing_of_when_and_by_whom(image_folder, make, tmp_path):
    make(dict(type='ImageFolder', root=str(image_folder())), '--per-shard', 2)
    with tarfile.open(tmp_path / 'out' / 'shard-000000.tar', 'r:') as tar:
        files = tar.getmembers()
    assert [f.name[9:] for f in files] == ['.png', '.cls'] * 2 and files[0].name[:9] == files[
        1
    ].name[:9]
    assert {(f.mtime, f.uid, f.gid, f.uname, f.gname, f.mode) for f in files} == {
        (0, 0, 0, '', '', 0o644)
    }


def test_the_same_bytes_again_and_only_what_is_missing_is_written(image_folder, make, tmp_path):
    cfg = dict(type='ImageFolder', root=str(image_folder()))
    assert make(cfg, '--per-shard', 5)[0] == make(cfg, '--per-shard', 5, out='other')[0] == 0
    folder = tmp_path / 'out'
    whole = contents(folder)
    assert whole == contents(tmp_path / 'other')
    kept = (folder / 'shard-000000.tar').stat()
    (folder / 'shard-000001.tar').write_bytes(whole['shard-000001.tar'][:3000])
    (folder / 'shard-000002.tar').unlink()
    (folder / 'shard-000003.tar').write_bytes(
        whole['shard-000004.tar']
    )  # whole, with other contents of fewer images
    (folder / 'shard-000003.tar.tmp.123').write_bytes(b'left over')
    assert make(cfg, '--per-shard', 5)[0] == 0
    assert contents(folder) == whole
    assert (folder / 'shard-000000.tar').stat().st_ino == kept.st_ino and len(whole) == 7


PAUSING = """
import os, signal, sys
from ssl_zoo.data.sources.arrays import Digits
from ssl_zoo.registry import SOURCES


@SOURCES.register_module()
class PausingDigits(Digits):
    \"\"\"Digits whose 31st image to be packed waits for a signal, once.\"\"\"

    packed = 0

    def encoded(self, i):
        self.packed += 1
        if self.packed == 31 and not os.path.exists('paused'):
            open('paused', 'w').close()
            print('paused', flush=True)
            signal.pause()
        return super().encoded(i)
"""


@pytest.mark.long
def test_a_stopped_call_goes_on(root, tmp_path):
    (tmp_path / 'pausing.py').write_text(PAUSING)
    command = [
        sys.executable,
        str(root / 'tools/make_shards.py'),
        repr(dict(type='PausingDigits', split='val')),
        'out',
        '--per-shard',
        '10',
        '--imports',
        'pausing.py',
    ]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == 'paused\n'
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=600)
    finally:
        process.kill()
    assert process.returncode == 130 and 'Traceback' not in err
    assert err.splitlines()[-1] == 'stopped; the same command goes on from here'
    assert len(list((tmp_path / 'out').glob('*.tar'))) == 3
    first = (tmp_path / 'out' / 'shard-000000.tar').stat().st_ino
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=600).returncode == 0
    assert (tmp_path / 'out' / 'shard-000000.tar').stat().st_ino == first
    assert_same_images(TarShards(str(tmp_path / 'out')), Digits('val'), permutation(180, 0))


def test_mistakes_are_told_in_a_sentence(image_folder, make, tmp_path, tool, capsys):
    root = image_folder()
    cfg = dict(type='ImageFolder', root=str(root))
    assert make(cfg, '--per-shard', 5)[0] == 0
    (tmp_path / 'file').write_text('')
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine' / 'x.tar').write_bytes(b'my own')
    (tmp_path / 'torn').mkdir()
    (tmp_path / 'torn' / 'shards.json').write_text('{')
    (root / 'broken.img').write_text('text')
    (root / 'list.txt').write_text('broken.img\n')
    for source, arguments, out, words in (
        (cfg, ['--per-shard', 0], 'new', '--per-shard is 0'),
        (
            cfg,
            ['--per-shard', 6],
            'out',
            'holds shards of another data set, or made with other options',
        ),
        (cfg, ['--per-shard', 5, '--in-order'], 'out', 'or made with other options'),
        (dict(type='Digits'), ['--per-shard', 5], 'out', 'holds shards of another data set'),
        (cfg, [], 'mine', 'mine holds shards of another data set'),
        (cfg, [], 'torn', 'torn holds shards of another data set'),
        (cfg, [], 'file', 'check the folder and its space'),
        (
            dict(type='FileList', path=str(root / 'list.txt')),
            [],
            'new',
            'an image cannot be read .*broken.img.*; remove it',
        ),
        (dict(type='ImageFolders'), [], 'new', "did you mean 'ImageFolder'"),
        (dict(type='ImageFolder', root='none'), [], 'new', 'that does not exist'),
        (['ImageFolder'], [], 'new', 'is not a dict such as'),
        (cfg, ['--imports', tmp_path / 'none.py'], 'new', 'no such file'),
    ):
        code, said, err = make(source, *arguments, out=out)
        assert (
            code == 2 and not said and err.startswith('error: ') and len(err.splitlines()) == 1
        ), err
        assert re.search(words, err), err
    assert (
        tool.main(['ImageFolder(', str(tmp_path / 'new')]) == 2
        and 'is not a dict such as' in capsys.readouterr().err
    )
    assert (tmp_path / 'mine' / 'x.tar').read_bytes() == b'my own'
    assert json.loads((tmp_path / 'out' / 'shards.json').read_text())['images'] == 24


def test_a_set_of_ones_own(make, tmp_path):
    (tmp_path / 'own.py').write_text('''
from ssl_zoo.data.sources.arrays import Digits
from ssl_zoo.registry import SOURCES


@SOURCES.register_module()
class DigitsToPack(Digits):
    """Digits."""
''')
    assert make(dict(type='DigitsToPack', split='val'), '--imports', tmp_path / 'own.py')[0] == 0
    assert os.listdir(tmp_path / 'out').count('shard-000000.tar') == 1
