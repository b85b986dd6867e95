"""tools/transfer.py as a user runs it: once in a process of its own, for the rest in this one."""

import importlib
import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssl_zoo.data.sources.folder import ImageFolder
from ssl_zoo.data.splits import hold_out
from ssl_zoo.evaluation import classifier_training
from ssl_zoo.evaluation.predictions import Predictions
from ssl_zoo.evaluation.protocols.describe import describe_row

LINEAR = ('--strengths', '1', '0.01', '100')
TUNED = (
    '--finetune',
    '--steps',
    '2',
    '--lrs',
    '0.01',
    '0.1',
    '--weight-decays',
    '0',
    '--batch-size',
    '8',
)


@pytest.fixture(scope='module')
def checkpoint(train_on_digits):
    """A run of 7 steps on digits, tested on none."""
    return train_on_digits(test=None)


def fill(root: Path, *sizes, seed=0) -> Path:
    """A folder of so many images for each class: noise around a brightness."""
    rng = np.random.default_rng(seed)
    for c, n in enumerate(sizes):
        (root / f'class_{c}').mkdir(parents=True)
        for i in range(n):
            pixels = rng.integers(0, 60, (8, 8, 3)) + 40 * c
            Image.fromarray(pixels.astype(np.uint8)).save(root / f'class_{c}' / f'{i}.png')
    return root


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    """--train and --test: 30 images of three classes, and 14, not equally many."""
    root = tmp_path_factory.mktemp('set')
    return (
        '--train',
        fill(root / 'train', 10, 10, 10),
        '--test',
        fill(root / 'test', 8, 4, 2, seed=1),
    )


@pytest.fixture
def tool(root, checkpoint, tmp_path, capsys):
    """Function: run the tool in this process on the checkpoint; (exit code, stdout, stderr)."""
    main = importlib.import_module('ssl_zoo.cli.transfer').main

    def run(*arguments, work=tmp_path / 'work'):
        capsys.readouterr()
        code = main([str(checkpoint), '--work-dir', str(work), *map(str, arguments)])
        return code, *capsys.readouterr()

    return run


def rows(work: Path) -> list[dict]:
    return [json.loads(line) for line in (work / 'results.jsonl').read_text().splitlines()]


def per_class(kept: Predictions) -> float:
    right = kept.predicted[:, 0] == kept.labels
    return 100 * float(np.mean([right[kept.labels == c].mean() for c in np.unique(kept.labels)]))


def test_image_folders_in_a_process_of_its_own(run_tool, root, checkpoint, folders, tmp_path):
    done = run_tool(
        root / 'tools/transfer.py',
        checkpoint,
        *folders,
        *LINEAR,
        '--work-dir',
        tmp_path / 'work',
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    [row] = rows(tmp_path / 'work')
    assert (row['metric'], row['n'], row['test']) == (
        'transfer_linear_top1',
        14,
        'ImageFolder',
    ) and row['strength'] in (100, 1, 0.01)
    assert row['test_manifest'] == ImageFolder(str(folders[3])).manifest() and row[
        'command'
    ].endswith(f'--work-dir {tmp_path / "work"}')
    assert (
        f'top-1 {row["value"]:.2f} %' in done.stdout
        and 'on 30 features without augmentation, L-BFGS' in done.stdout
    )
    assert (
        'chosen of 3 on 6 held-out images' in done.stdout
        and ', fitted again with the hold-out' in done.stdout
    )
    assert (
        row['config']['data']['train'] == dict(type='ImageFolder', root=str(folders[1]))
        and row['config']['data']['val'] == 0.2
    )


def test_fine_tuning_and_its_options(tool, folders, tmp_path):
    code, out, _ = tool(
        *folders, *TUNED, '--metric', 'mean_per_class', '--val', 0.3, '--flip-p', 0, '--seed', 4
    )
    [row] = rows(tmp_path / 'work')
    assert (
        code == 0
        and 'mean per class' in out
        and f'mean per class in percent on {9} held-out images' in out
    )
    assert (row['metric'], row['seed'], row['n']) == ('transfer_finetune_mean_per_class', 4, 14)
    assert (
        row['recipe']['lrs'] == [0.01, 0.1]
        and row['recipe']['weight_decays'] == [0]
        and row['recipe']['flip_p'] == 0
    )
    assert describe_row(row).startswith('whole network fine-tuned, 2 steps of 8, SGD, lr 0.')
    assert describe_row(row).endswith(
        ', trained again with the hold-out'
    ) and 'chosen of 2 on 9 held-out images' in describe_row(row)
    assert row['value'] == pytest.approx(per_class(Predictions.load(row['predictions'])))


def test_the_hold_out_is_a_share_of_the_training_images(tool, folders, tmp_path):
    assert tool(*folders, *LINEAR, '--val', 0.1)[0] == 0
    [stored] = [p for p in (tmp_path / 'work' / 'features').glob('transfer_val-*') if p.is_dir()]
    source = ImageFolder(str(folders[1]))
    assert json.loads((stored / 'names.json').read_text()) == [
        source.name(i) for i in hold_out(source, 0.1)[1]
    ]


def draw(path: Path, rng):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)).save(path)


def aircraft(root: Path):
    """FGVC-Aircraft's files: 12 'train', 6 'val' and 9 test images of three variants."""
    data, rng = root / 'fgvc-aircraft-2013b' / 'data', np.random.default_rng(0)
    lines = dict(train=[0, 1, 2] * 4, val=[0, 1, 2] * 2, test=[0] * 6 + [1] * 2 + [2])
    for part, (split, labels) in enumerate(lines.items()):
        for i in range(len(labels)):
            draw(data / 'images' / f'{part}{i:06}.jpg', rng)
        lines[split] = [
            f'{part}{i:06} {("707-320", "A300B4", "Cessna 172")[label]}'
            for i, label in enumerate(labels)
        ]
    (data / 'variants.txt').write_text('707-320\nA300B4\nCessna 172\n')
    for split, some in (*lines.items(), ('trainval', lines['train'] + lines['val'])):
        (data / f'images_variant_{split}.txt').write_text('\n'.join(some) + '\n')


def food(root: Path):
    """Food-101's files: 12 training and 9 test images of three dishes."""
    rng = np.random.default_rng(0)
    for split, sizes in (('train', (4, 4, 4)), ('test', (6, 2, 1))):
        meta = {
            dish: [f'{dish}/{split}{i}' for i in range(n)]
            for dish, n in zip(('pie', 'soup', 'tart'), sizes, strict=True)
        }
        for files in meta.values():
            for file in files:
                draw(root / 'food-101' / 'images' / f'{file}.jpg', rng)
        (root / 'food-101' / 'meta').mkdir(exist_ok=True)
        (root / 'food-101' / 'meta' / f'{split}.json').write_text(json.dumps(meta))


@pytest.mark.parametrize(
    ('name', 'make', 'metric', 'images'),
    [('FGVCAircraft', aircraft, 'mean_per_class', 18), ('Food101', food, 'top1', 12)],
)
def test_a_known_set_is_trained_on_its_split_and_reported_in_its_metric(
    tool, tmp_path, name, make, metric, images
):
    make(tmp_path / 'data')
    for options in (LINEAR, TUNED):
        assert tool('--dataset', name, '--root', tmp_path / 'data', '--val', 0.25, *options)[0] == 0
    assert (
        tool(
            '--dataset',
            name,
            '--root',
            tmp_path / 'data',
            '--val',
            0.25,
            *LINEAR,
            '--metric',
            'mean_per_class',
        )[0]
        == 0
    )
    linear, tuned, other = rows(tmp_path / 'work')
    assert [row['metric'] for row in (linear, tuned, other)] == [
        f'transfer_linear_{metric}',
        f'transfer_finetune_{metric}',
        'transfer_linear_mean_per_class',
    ]
    for row in (linear, tuned):
        kept = Predictions.load(row['predictions'])
        assert np.bincount(kept.labels).tolist() == [6, 2, 1]
        top1 = 100 * np.mean(kept.predicted[:, 0] == kept.labels)
        assert row['value'] == pytest.approx(
            per_class(kept) if metric == 'mean_per_class' else top1
        )
    assert f'on {images} features' in describe_row(linear) and (linear['n'], linear['test']) == (
        9,
        name,
    )


def test_data_is_looked_for_in_the_folder_data_unless_another_is_named(tool, tmp_path, monkeypatch):
    food(tmp_path / 'data')
    monkeypatch.chdir(tmp_path)
    assert tool('--dataset', 'Food101', *LINEAR)[0] == 0


@pytest.mark.parametrize(
    'name', ["it's a set", 'a=b, c', '{x}', 'q"u\\o', 'données', '#1', os.fsdecode(b'caf\xe9')]
)
def test_folders_of_any_name(tool, tmp_path, name):
    root = fill(tmp_path / name, 4, 4)
    code, _, err = tool('--train', root, '--test', root, '--strengths', 1)
    assert code == 0, err
    assert rows(tmp_path / 'work')[0]['config']['data']['train']['root'] == str(root)


def test_strengths_are_swept_from_the_strongest_on(tool, folders, monkeypatch):
    from ssl_zoo.evaluation import logistic

    seen, real = [], logistic.sweep

    def sweep(x, y, score, strengths, **rest):
        seen.append(strengths)
        return real(x, y, score, strengths, **rest)

    monkeypatch.setattr(logistic, 'sweep', sweep)
    assert tool(*folders, *LINEAR)[0] == 0 and tool(*folders)[0] == 0
    assert (
        seen[0] == (100, 1, 0.01)
        and len(seen[1]) == 45
        and list(seen[1]) == sorted(seen[1], reverse=True)
    )
    assert (seen[1][0], seen[1][-1]) == pytest.approx((1e5, 1e-6))


def test_stopped_fine_tuning_goes_on_by_the_same_command(tool, folders, tmp_path, monkeypatch):
    steps, real = [], classifier_training.seed_everything

    def seed(value):
        steps.append(value)
        if len(steps) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        real(value)

    monkeypatch.setattr(classifier_training, 'seed_everything', seed)
    code, _, err = tool(*folders, *TUNED)
    assert code == 143 and 'the same command goes on from here' in err and 'Traceback' not in err
    assert tool(*folders, *TUNED)[0] == 0 and len(steps) == 6
    assert tool(*folders, *TUNED, work=tmp_path / 'whole')[0] == 0
    assert all(
        rows(tmp_path / 'work')[0][key] == rows(tmp_path / 'whole')[0][key]
        for key in ('value', 'setting', 'protocol', 'chosen')
    )


WHICH = 'give either --dataset NAME or both --train FOLDER and --test FOLDER'


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        ([], WHICH),
        (['--train', 'train'], WHICH),
        (['--test', 'test'], WHICH),
        (['--train', '', '--test', 'test'], WHICH),
        (['--dataset', 'CIFAR10', '--train', 'train', '--test', 'test'], WHICH),
        (['--dataset', ''], WHICH),
        (['--dataset', 'CIFAR10', '--train', 'train'], WHICH),
        (['--dataset', 'CIFAR10', '--test', 'test'], WHICH),
        (
            ['--dataset', 'CIFAR11'],
            "'CIFAR11' is not a data set to transfer to: did you mean 'CIFAR10'",
        ),
        (['--dataset', 'Digits'], "'Digits' is not a data set to transfer to: Allowed: CIFAR10"),
        (['--dataset', 'cifar10'], 'is not a data set to transfer to'),
        (['--dataset', 'CIFAR10', '--root', 'nowhere'], 'looked for the files of CIFAR10 in'),
        (
            ['--dataset', 'Flowers102', '--root', 'nowhere'],
            'looked for the folder flowers-102 of Flowers102 in',
        ),
        (
            ['--train', 'nowhere', '--test', 'test'],
            'nowhere, but that does not exist; set root to a folder that holds it',
        ),
        (['--train', 'train', '--test', 'nowhere'], 'nowhere, but that does not exist'),
        (['--train', 'train/class_0', '--test', 'test'], 'found 0 folders and no images in them'),
        (['--train', 'train/class_0/0.png', '--test', 'test'], 'but that is a file'),
        (
            ['--train', 'test', '--test', 'more'],
            'data.test has classes that data.train does not have: class_3; data.train has 3: '
            'class_0',
        ),
        (
            ['--train', 'one', '--test', 'one'],
            'the training images are all of one class; a classifier needs two',
        ),
        (
            ['--train', 'one', '--test', 'one', *TUNED],
            'the training images are all of one class; a classifier needs two',
        ),
        (
            ['SET', '--metric', 'top5'],
            "the metric is 'top5': did you mean 'top1'? Allowed: mean_per_class, top1.",
        ),
        (
            ['SET', *TUNED, '--metric', 'accuracy'],
            "the metric is 'accuracy': Allowed: mean_per_class, top1.",
        ),
        (['SET', '--finetune', '--steps', '0'], '--steps is 0, but it must be at least 1'),
        (['SET', '--finetune', '--steps', '-3'], '--steps is -3, but it must be at least 1'),
        (
            ['SET', *TUNED, '--epochs', '5'],
            'the length of fine-tuning is given in steps here: use --steps',
        ),
        (['SET', '--epochs', '5'], 'use --steps'),
        (['SET', *TUNED, '--lrs', '-1'], 'lrs is (0.01, 0.1, -1.0), but it must be'),
        (
            ['SET', *TUNED, '--weight-decays', '-1'],
            'weight_decays is (0.0, -1.0), but it must be one or more numbers at least 0',
        ),
        (['SET', *TUNED, '--batch-size', '0'], 'batch_size is 0'),
        (['SET', *TUNED, '--batch-size', '1'], 'batch'),
        (['SET', '--val', '0'], 'held out'),
        (['SET', '--val', '1'], 'data.val=1.0 of 30 images leaves nothing on one side'),
        (['SET', '--val', '-0.2'], 'data.val=-0.2 of 30 images leaves nothing on one side'),
        (['SET', '--val', 'nan'], 'data.val='),
        (['SET', '--val', '1e-9'], 'leaves nothing on one side'),
        (['SET', '--strengths', '0'], 'strength'),
        (['SET', '--strengths', '1', '-1'], 'strength'),
        (['SET', '--strengths', 'nan', '1'], 'strength'),
        (['SET', '--network', 'teacher'], "BYOL has no 'teacher' network"),
        (['SET', '--layer', 'head'], "the layer is 'head'"),
    ],
)
def test_mistakes_get_one_sentence(tool, tmp_path, folders, monkeypatch, arguments, words):
    monkeypatch.chdir(folders[1].parent)
    if not Path('one').exists():
        fill(Path('one'), 6)
        fill(Path('more'), 2, 2, 2, 2)
    code, out, err = tool(
        *(a for argument in arguments for a in (folders if argument == 'SET' else [argument]))
    )
    [line] = [line for line in err.splitlines() if line.startswith('error: ')]
    assert code == 2 and words in line and 'Traceback' not in err
    assert not (tmp_path / 'work' / 'results.jsonl').exists()


def test_a_folder_that_cannot_be_written_gets_one_sentence(tool, folders, tmp_path):
    (tmp_path / 'file').write_text('')
    for options in (LINEAR, TUNED):
        code, _, err = tool(*folders, *options, work=tmp_path / 'file')
        assert (
            code == 2
            and err.splitlines()[-1].startswith('error: ')
            and str(tmp_path / 'file') in err.splitlines()[-1]
        )


def test_what_is_no_number_is_told_by_the_parser_and_help_is_there(tool, folders, capsys):
    for arguments in (('--steps', '1.5'), ('--val', 'half'), ('--strengths',), ('--dtype', 'int8')):
        with pytest.raises(SystemExit) as stopped:
            tool(*folders, *arguments)
        assert stopped.value.code == 2 and 'error: ' in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        tool('--help')
    out = capsys.readouterr().out
    assert stopped.value.code == 0 and 'FGVCAircraft' in out and '--finetune' in out
