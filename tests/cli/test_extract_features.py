"""tools/extract_features.py: its files, its output, their reuse, mistakes, two processes."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_zoo.build import build_method
from ssl_zoo.checkpoint import FORMAT, add_digest
from ssl_zoo.config.loading import import_file
from ssl_zoo.config.settings import settings_from_dict
from ssl_zoo.data.sources.folder import ImageFolder
from ssl_zoo.evaluation import feature_store

METHOD = '''
"""A user's method: pixels online, their negatives as target. Sums of one term are exact."""
import torch
from torch import nn
from ssl_zoo import METHODS, Method


def pixels(scale):
    layer = nn.Linear(12, 12, bias=False)
    layer.weight.data = scale * torch.eye(12)
    return nn.Sequential(nn.Flatten(), layer)


@METHODS.register_module()
class PixelsToExtract(Method):
    """Pixels."""
    networks = dict(online=('backbone', 'first'), target=('negative', 'first'))

    def __init__(self):
        super().__init__()
        self.backbone = pixels(1.0)
        self.negative = pixels(-1.0)
        self.first = nn.Linear(12, 1, bias=False)
        self.embed_dim = 12
        self.first.weight.data = torch.eye(1, 12) / 2

    def loss(self, views, **batch):
        return dict(loss=self.backbone(views[0]).square().mean())
'''
COUNTS = dict(train=7, test=5)  # of each of three classes; train also gives 6 to val


@pytest.fixture(scope='module')
def home(tmp_path_factory):
    """A folder with a method, a checkpoint of it, and labelled images of 2 px."""
    home = tmp_path_factory.mktemp('home')
    (home / 'my_method.py').write_text(METHOD)
    import_file(str(home / 'my_method.py'))
    rng = np.random.default_rng(0)
    for part, n in COUNTS.items():
        for c in 'abc':
            (home / part / c).mkdir(parents=True)
            for i in range(n):
                Image.fromarray(rng.integers(0, 256, (2, 2, 3)).astype(np.uint8)).save(
                    home / part / c / f'{i}.png'
                )
    settings = settings_from_dict(
        dict(
            method=dict(type='PixelsToExtract'),
            views=[dict(size=2)],
            optimizer=dict(type='SGD'),
            epochs=1,
            batch_size=4,
            base_lr=1.0,
            data=dict(
                train=dict(type='ImageFolder', root=str(home / 'train')),
                val=6,
                test=dict(type='ImageFolder', root=str(home / 'test')),
                mean=[0.5] * 3,
                std=[0.5] * 3,
            ),
            workers=0,
        )
    )
    content = dict(
        format=FORMAT,
        config=settings.to_builtin(),
        step=3,
        method=build_method(settings).state_dict(),
    )
    torch.save(add_digest(content), home / 'checkpoint.pth')
    return home


@pytest.fixture
def extract(home, tmp_path, root, capsys):
    """Function: run the tool in this process; (exit code, stdout, stderr without progress bars)."""
    tool = importlib.import_module('ssl_zoo.cli.extract_features')

    def call(*arguments, checkpoint=home / 'checkpoint.pth', work='work'):
        code = tool.main(
            [str(checkpoint), '--work-dir', str(tmp_path / work), *map(str, arguments)]
        )
        out, err = capsys.readouterr()
        return (
            code,
            out,
            ''.join(f'{line}\n' for line in err.splitlines() if line and ' images/s' not in line),
        )

    return call


def folders(work: Path) -> dict[str, Path]:
    return {
        path.name.rsplit('-', 1)[0]: path for path in (work / 'features').iterdir() if path.is_dir()
    }


def formula(root: Path, names: list[str]) -> np.ndarray:
    """Pixels in [-1, 1], channel after channel, from the files."""
    return np.array(
        [
            (np.asarray(Image.open(root / name)) / 127.5 - 1).transpose(2, 0, 1).reshape(-1)
            for name in names
        ]
    )


def test_every_set_of_the_config_is_stored(extract, home, tmp_path):
    code, out, err = extract()
    assert (code, err) == (0, '')
    found = folders(tmp_path / 'work')
    counts = (('train', 15), ('val', 6), ('test', 15))
    assert out.splitlines() == [
        f'{name}: {n} x 12 float32, 0.0 MiB in {found[name]}' for name, n in counts
    ]
    all_names = []
    for name, n in counts:
        names = json.loads((found[name] / 'names.json').read_text())
        values = np.load(found[name] / 'features.npy')
        np.testing.assert_allclose(
            values, formula(home / ('test' if name == 'test' else 'train'), names), atol=1e-6
        )
        assert values.dtype == np.float32 and len(values) == n
        assert np.load(found[name] / 'labels.npy').tolist() == [
            'abc'.index(name[0]) for name in names
        ]
        assert np.load(found[name] / 'index.npy').tolist() == list(range(n))
        manifest = json.loads((found[name] / 'manifest.json').read_text())
        assert (
            manifest['images'] == n
            and manifest['classes'] == ['a', 'b', 'c']
            and manifest['unreadable'] == []
        )
        assert (
            manifest['key']['network'] == 'online' and manifest['key']['preprocessing']['size'] == 2
        )
        all_names.append(set(names))
    whole = ImageFolder(str(home / 'train')).files
    assert not all_names[0] & all_names[1] and sorted(all_names[0] | all_names[1]) == whole


def test_what_is_stored_is_found_again(extract, tmp_path, monkeypatch):
    _, first, _ = extract()
    before = {
        p: p.stat().st_mtime_ns
        for p in (tmp_path / 'work' / 'features').rglob('*.*')
        if p.suffix != '.lock'
    }
    monkeypatch.setattr(feature_store, '_Extraction', None)
    assert extract() == (0, first, '') and before == {p: p.stat().st_mtime_ns for p in before}


def test_network_layer_and_dtype(extract, home, tmp_path):
    code, out, err = extract(
        '--data', 'test', '--network', 'target', '--layer', 'projector', '--dtype', 'float16'
    )
    assert (
        (code, err) == (0, '')
        and out.startswith('test: 15 x 1 float16')
        and list(folders(tmp_path / 'work')) == ['test']
    )
    values = np.load(folders(tmp_path / 'work')['test'] / 'features.npy')
    names = json.loads((folders(tmp_path / 'work')['test'] / 'names.json').read_text())
    assert values.dtype == np.float16
    np.testing.assert_allclose(values[:, 0], -formula(home / 'test', names)[:, 0] / 2, atol=1e-3)


def test_a_set_of_ones_own_without_labels_and_with_damaged_images(extract, home, tmp_path):
    photos = tmp_path / 'photos'
    photos.mkdir()
    for i in range(4):
        Image.fromarray(np.full((2, 2, 3), 60 * i, np.uint8)).save(photos / f'{i}.png')
    (photos / '1.png').write_bytes(b'torn')
    (photos / '3.png').write_bytes(b'')
    code, out, err = extract('--source', repr(dict(type='Images', root=str(photos))))
    folder = folders(tmp_path / 'work')['images']
    assert (code, err) == (0, '')
    reason = f"UnidentifiedImageError: cannot identify image file '{photos}/1.png'"
    assert out == (
        f'images: 2 x 12 float32, 0.0 MiB in {folder}; '
        f'2 images left out, the first is 1.png ({reason})\n'
    )
    np.testing.assert_allclose(
        np.load(folder / 'features.npy'),
        np.repeat([[-1], [120 / 127.5 - 1]], 12, axis=1),
        atol=1e-6,
    )
    assert np.load(folder / 'index.npy').tolist() == [0, 2] and not (folder / 'labels.npy').exists()
    for path in photos.iterdir():
        path.write_bytes(b'torn')
    code, out, err = extract('--source', repr(dict(type='Images', root=str(photos))))
    assert (code, out) == (2, '') and err.startswith(
        'error: none of the 4 images can be read, the first is 0.png (Unidentified'
    )


def test_sets_without_labels_need_none(extract, home, tmp_path):
    options = [
        f"data.{part}={{'type': 'Images', 'root': '{home / part}'}}" for part in ('train', 'test')
    ]
    (home / 'test' / 'a' / 'notes.txt').touch()
    code, out, err = extract('--cfg-options', *options)
    (home / 'test' / 'a' / 'notes.txt').unlink()
    assert code == 0 and err == ''
    assert out.startswith(f'note: {home / "test"}: 15 images; 1 other file left out: 1 .txt\n')
    stored = folders(tmp_path / 'work')
    assert {name: len(np.load(path / 'features.npy')) for name, path in stored.items()} == dict(
        train=15, val=6, test=15
    )
    assert not (stored['train'] / 'labels.npy').exists()


def test_a_file_name_that_is_not_text_can_be_printed(extract, tmp_path):
    photos = tmp_path / 'photos'
    photos.mkdir()
    Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(photos / '1.png')
    with open(os.fsencode(photos) + b'/\xff.png', 'wb') as file:
        file.write(b'torn')
    code, out, err = extract('--source', repr(dict(type='Images', root=str(photos))))
    assert (code, err) == (0, '') and '1 images left out' in out
    with open(os.fsencode(photos) + b'/\xff.png', 'wb') as file:
        file.write((photos / '1.png').read_bytes())
    assert extract('--source', repr(dict(type='Images', root=str(photos))))[0] == 0
    assert '2 x 12' in extract('--source', repr(dict(type='Images', root=str(photos))))[1]


def test_pictures_exchanged_under_the_same_names_are_extracted_anew(extract, tmp_path):
    photos = tmp_path / 'photos'
    photos.mkdir()
    rng = np.random.default_rng(0)
    for i in range(30):  # most of them are not among the images whose pixels are compared
        picture = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        picture.save(photos / f'{i:02d}.bmp')

    def features():
        code, out, err = extract('--source', repr(dict(type='Images', root=str(photos))))
        assert (code, err) == (0, '')
        return np.load(Path(out.split(' MiB in ')[1].strip()) / 'features.npy')

    before = features()
    first, second = ((photos / name).read_bytes() for name in ('05.bmp', '06.bmp'))
    (photos / '05.bmp').write_bytes(second)
    (photos / '06.bmp').write_bytes(first)
    after = features()
    assert not np.array_equal(before[5], before[6])
    assert np.array_equal(after[5], before[6]) and np.array_equal(after[6], before[5])
    assert np.array_equal(np.delete(after, [5, 6], 0), np.delete(before, [5, 6], 0))


def test_a_stopped_extraction_goes_on(extract, tmp_path, monkeypatch):
    monkeypatch.setattr(feature_store, 'BLOCK', 4)
    extract('--data', 'test', work='whole')
    real, seen = ImageFolder.read, []

    def read(self, i):
        if len(seen) == 9:
            raise KeyboardInterrupt
        seen.append(int(i))
        return real(self, i)

    monkeypatch.setattr('ssl_zoo.data.identity._pixel_hash', lambda *_: 'not looked at here')
    extract('--data', 'test', work='whole')
    monkeypatch.setattr(ImageFolder, 'read', read)
    code, out, err = extract('--data', 'test')
    assert (code, out) == (130, '') and err.endswith(
        'stopped; the same command goes on from here\n'
    )
    monkeypatch.setattr(
        ImageFolder, 'read', lambda self, i: (seen.append(int(i)), real(self, i))[1]
    )
    assert extract('--data', 'test')[0] == 0 and seen == [*range(9), *range(8, 15)]
    a, b = (
        (folders(tmp_path / work)['test'] / 'features.npy').read_bytes()
        for work in ('whole', 'work')
    )
    assert a == b


@pytest.mark.parametrize(
    ('arguments', 'sentence'),
    [
        (['--data', 'val', '--cfg-options', 'data.val=None'], 'the config has no data.val'),
        (
            ['--data', 'train', 'test', '--cfg-options', 'data.test=None'],
            'the config has no data.test',
        ),
        (['--source', '('], "--source '(' is not a dict such as"),
        (['--source', '42'], "--source '42' is not a dict such as"),
        (['--source', "'abc'"], 'is not a dict such as'),
        (['--source', '[1]'], 'is not a dict such as'),
        (['--source', 'None'], 'is not a dict'),
        (['--source', '{[]: 1}'], 'is not a dict such as'),
        (['--source', '{}'], 'a source is written dict(type=..., ...)'),
        (['--source', "{'type': 'Imagse', 'root': '/'}"], "did you mean 'Images'"),
        (['--source', "{'type': 'Images'}"], "needs 'root'"),
        (
            ['--source', "{'type': 'Images', 'root': '/none'}"],
            'looked for images in /none, but that does not exist',
        ),
        (
            ['--source', "{'type': 'Digits', 'limit': 9999}"],
            'limit=9999, but Digits has 1257 images',
        ),
        (['--network', 'onlin'], "did you mean 'online'"),
        (['--layer', 'head'], "the layer is 'head': Allowed: backbone, projector."),
        (['--cfg-options', 'method.x=1'], 'would change what was trained'),
        (['--eval-batch-size', '0'], 'the batch size is 0'),
        (['--workers', '-1'], '-1'),
        (['--imports', '/none.py'], '/none.py, but there is no such file'),
        (['--precision', 'half'], "'bf16'"),
    ],
    ids=lambda value: ' '.join(value) if isinstance(value, list) else '',
)
def test_mistakes_end_with_one_sentence(extract, tmp_path, arguments, sentence):
    code, out, err = extract(*arguments)
    assert (
        code == 2
        and out == ''
        and err.startswith('error: ')
        and err.count('\n') == 1
        and sentence in err
    )
    assert not (tmp_path / 'work').exists()


def test_a_file_for_imports_is_not_said_to_be_relative_to_a_config(extract):
    assert 'relative to the config' not in extract('--imports', 'none.py')[2]


@pytest.mark.parametrize(
    'arguments', [['--data', 'tset'], ['--dtype', 'float64'], ['--workers', 'two'], ['--data']]
)
def test_choices_are_said_by_the_parser(extract, arguments, capsys):
    with pytest.raises(SystemExit) as end:
        extract(*arguments)
    assert end.value.code == 2 and 'error: argument ' + arguments[0] in capsys.readouterr().err


def test_as_a_user_runs_it_from_another_folder_with_a_method_of_ones_own(
    run_tool, home, root, tmp_path
):
    (tmp_path / 'run' / 'checkpoints').mkdir(parents=True)
    (tmp_path / 'run' / 'checkpoints' / 'step_00000003.pth').write_bytes(
        (home / 'checkpoint.pth').read_bytes()
    )
    done = run_tool(
        root / 'tools/extract_features.py',
        'run/checkpoints/step_00000003.pth',
        '--data',
        'test',
        '--imports',
        os.path.relpath(home / 'my_method.py', tmp_path),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    [folder] = (tmp_path / 'run' / 'features').glob('test-*')
    assert (
        done.stdout.startswith('test: 15 x 12 float32, 0.0 MiB in ')
        and str(folder.relative_to(tmp_path)) in done.stdout
    )
    np.testing.assert_allclose(
        np.load(folder / 'features.npy'),
        formula(home / 'test', ImageFolder(str(home / 'test')).files),
        atol=1e-6,
    )


@pytest.mark.long
def test_two_processes_under_torchrun_give_the_same_files_as_one(extract, home, root, tmp_path):
    extract()
    (tmp_path / 'driver.py').write_text(f"""
import json, os, runpy, sys
from ssl_zoo.evaluation import feature_store
feature_store.BLOCK = 4
shares = []
real = feature_store.encode_batches

def encode_batches(encode, source, *rest):
    shares.append(source.name(0))
    return real(encode, source, *rest)

feature_store.encode_batches = encode_batches
sys.argv = [{str(root / 'tools' / 'extract_features.py')!r}, *sys.argv[1:]]
try:
    runpy.run_path(sys.argv[0], run_name='__main__')
except SystemExit as end:
    with open({str(tmp_path)!r} + '/rank_' + os.environ['RANK'], 'w') as file:
        json.dump([end.code, shares], file)
    raise
""")
    command = [
        sys.executable,
        '-m',
        'torch.distributed.run',
        '--nproc-per-node',
        '2',
        'driver.py',
        str(home / 'checkpoint.pth'),
        '--work-dir',
        'two',
        '--imports',
        str(home / 'my_method.py'),
    ]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        text=True,
        capture_output=True,
        timeout=600,
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
    )
    assert done.returncode == 0, done.stderr
    one, two = folders(tmp_path / 'work'), folders(tmp_path / 'two')
    assert {path.name for path in one.values()} == {path.name for path in two.values()} and len(
        one
    ) == 3
    for name, path in one.items():
        assert {p.name for p in path.iterdir()} == {p.name for p in two[name].iterdir()}
        for file in ('features.npy', 'labels.npy', 'index.npy', 'names.json'):
            assert (path / file).read_bytes() == (two[name] / file).read_bytes(), (name, file)
        key, again = (
            json.loads((p / 'manifest.json').read_text())['key'] for p in (path, two[name])
        )
        assert key == again
    assert done.stdout.count('test: 15 x 12') == 1  # one of them speaks
    (code, first), (code_1, second) = (
        json.loads((tmp_path / f'rank_{rank}').read_text()) for rank in (0, 1)
    )
    assert code == code_1 == 0 and len(first) == 5 and len(second) == 5  # blocks, of 4 + 2 + 4
