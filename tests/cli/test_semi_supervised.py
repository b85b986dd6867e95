"""tools/semi_supervised.py: once in a new process; mistakes and stops in this process."""

import importlib
import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from ssl_zoo.data.label_lists import write_list
from ssl_zoo.data.sources.arrays import Digits
from ssl_zoo.evaluation import classifier_training

SMALL = (
    '--lrs',
    '0.2',
    '2',
    '--epochs',
    '1',
    '--batch-size',
    '16',
)  # 2 settings of 2 steps, of 40 labels
FEW = ('--labels', '4-per-class', *SMALL)


@pytest.fixture
def tool(root, checkpoint, tmp_path, capsys):
    """Function: run the tool in this process on the checkpoint; (exit code, stdout, stderr)."""
    main = importlib.import_module('ssl_zoo.cli.semi_supervised').main

    def run(*arguments, checkpoint=checkpoint, work=tmp_path / 'work'):
        capsys.readouterr()
        code = main([str(checkpoint), '--work-dir', str(work), *map(str, arguments)])
        return code, *capsys.readouterr()

    return run


def rows(work: Path) -> list[dict]:
    return [json.loads(line) for line in (work / 'results.jsonl').read_text().splitlines()]


def test_two_draws_in_a_process_of_its_own(run_tool, root, checkpoint, tmp_path):
    done = run_tool(
        root / 'tools/semi_supervised.py',
        checkpoint,
        *FEW,
        '--draws',
        2,
        '--work-dir',
        tmp_path / 'work',
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    first, second, both = rows(tmp_path / 'work')
    assert (
        'draw 1 of 2' in done.stdout
        and 'on 40 held-out images' in done.stdout
        and '<- chosen' in done.stdout
    )
    assert (
        f'fine-tuned on 40 labels (4-per-class), mean of 2 draws: {both["value"]:.2f} %'
        in done.stdout
    )
    assert both['value'] == pytest.approx((first['value'] + second['value']) / 2)
    assert both['std'] == pytest.approx(abs(first['value'] - second['value']) / 2**0.5)
    assert first['list_sha256'] != second['list_sha256'] and first['command'].endswith(
        f'--draws 2 --work-dir {tmp_path / "work"}'
    )
    assert {row['setting'] for row in (first, second)} <= {
        'lr 0.0125, 1 epochs',
        'lr 0.125, 1 epochs',
    }
    assert sorted(p.name for p in (tmp_path / 'work' / 'labels').iterdir()) == [
        '4-per-class_seed0.txt',
        '4-per-class_seed1.txt',
    ]
    assert not (checkpoint.parents[1] / 'semi_supervised').exists()


def test_from_scratch_is_the_same_with_random_weights(tool, tmp_path):
    printed = {}
    for option in ((), ('--from-scratch',), ('--random-weights',)):
        code, printed[option], _ = tool(*FEW, *option, work=tmp_path / ' '.join(option))
        assert code == 0
    trained, scratch, random = (rows(tmp_path / ' '.join(option))[0] for option in printed)
    assert (
        '[random weights, online backbone]  from scratch on 40 labels'
        in printed[('--from-scratch',)]
    )
    assert '[trained, online backbone]  fine-tuned on 40 labels' in printed[()]
    assert all(
        scratch[key] == random[key]
        for key in ('value', 'setting', 'protocol', 'chosen', 'list_sha256', 'weights')
    )
    assert all(scratch[key] == trained[key] for key in ('recipe', 'list_sha256', 'labelled', 'n'))
    assert (trained['weights'], scratch['weights']) == ('trained', 'random weights')


def test_a_list_of_ones_own_and_other_options(tool, tmp_path):
    write_list(tmp_path / 'my list.txt', Digits('val'), np.arange(50))
    code, out, _ = tool(
        '--list',
        tmp_path / 'my list.txt',
        *SMALL,
        '--metric',
        'mean_per_class',
        '--seed',
        3,
        '--network',
        'target',
        '--flip-p',
        0,
        '--crop',
        0.5,
        1,
    )
    [row] = rows(tmp_path / 'work')
    assert code == 0 and 'mean per class' in out and 'on 50 labels (my list.txt)' in out
    assert (row['metric'], row['seed'], row['network'], row['labelled']) == (
        'semi_supervised_mean_per_class',
        3,
        'target',
        50,
    )
    assert (
        row['recipe']['flip_p'] == 0
        and row['recipe']['crop'] == [0.5, 1]
        and row['recipe']['lrs'] == [0.2, 2]
    )
    assert row['list'] == str(tmp_path / 'my list.txt')


def test_figures_go_to_the_run_unless_another_folder_is_named(root, checkpoint, tmp_path):
    here = tmp_path / 'run' / 'checkpoints' / checkpoint.name
    here.parent.mkdir(parents=True)
    here.write_bytes(checkpoint.read_bytes())
    assert importlib.import_module('ssl_zoo.cli.semi_supervised').main([str(here), *FEW]) == 0
    assert (
        len(rows(tmp_path / 'run')) == 1
        and (tmp_path / 'run' / 'labels' / '4-per-class_seed0.txt').exists()
    )


def test_a_stopped_evaluation_goes_on_by_the_same_command(tool, tmp_path, monkeypatch):
    steps, real = [], classifier_training.seed_everything

    def seed(value):
        steps.append(value)
        if len(steps) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        real(value)

    monkeypatch.setattr(classifier_training, 'seed_everything', seed)
    code, _, err = tool(*FEW)
    assert (
        code == 143
        and 'stopped by SIGTERM after step 1; the same command goes on from here' in err
        and 'Traceback' not in err
    )
    assert tool(*FEW)[0] == 0 and len(steps) == 4
    assert tool(*FEW, work=tmp_path / 'whole')[0] == 0
    assert all(
        rows(tmp_path / 'work')[0][key] == rows(tmp_path / 'whole')[0][key]
        for key in ('value', 'setting', 'protocol', 'chosen')
    )


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (
            (),
            'nothing says which images have labels; give --labels 1%, --labels 4-per-class or '
            '--list FILE',
        ),
        (('--labels', '0%'), "--labels '0%' is neither a share above 0% and up to 100%"),
        (('--labels', '200%'), "--labels '200%' is neither"),
        (('--labels', '5'), "--labels '5' is neither"),
        (('--labels', 'x-per-class'), "--labels 'x-per-class' is neither"),
        (('--labels', ''), "--labels '' is neither"),
        (('--labels=-1%',), "--labels '-1%' is neither"),
        (
            ('--labels', '1%'),
            '1% of 140 images are 1, fewer than the 10 classes; ask for more, such as 1-per-class',
        ),
        (
            ('--labels', '99-per-class'),
            '99-per-class, but the smallest class has 14 images; ask for at most 14-per-class',
        ),
        ((*FEW, '--draws', '0'), '--draws is 0, but it must be at least 1'),
        ((*FEW, '--draws', '-1'), '--draws is -1'),
        (
            (*FEW, '--metric', 'top5'),
            "the metric is 'top5': did you mean 'top1'? Allowed: mean_per_class, top1.",
        ),
        ((*FEW, '--metric', ''), "the metric is ''"),
        ((*FEW, '--network', 'teacher'), "BYOL has no 'teacher' network"),
        (
            (*FEW, '--lrs', '0'),
            'lrs is (0.2, 2.0, 0.0), but it must be one or more numbers above 0',
        ),
        ((*FEW, '--lrs', 'nan'), 'lrs is (0.2, 2.0, nan)'),
        ((*FEW, '--epochs', '0'), 'epochs is (1.0, 0.0), but it must be'),
        ((*FEW, '--epochs', '-3'), 'epochs is (1.0, -3.0)'),
        ((*FEW, '--epochs', 'inf'), 'epochs is (1.0, inf)'),
        (
            (*FEW, '--batch-size', '0'),
            'batch_size is 0, but it must be a whole number of at least 1',
        ),
        ((*FEW, '--batch-size', '1'), 'batch'),
        ((*FEW, '--workers', '-1'), 'workers'),
        ((*FEW, '--crop', '1', '0.5'), 'crop=(1.0, 0.5)'),
        ((*FEW, '--flip-p', '2'), 'flip_p=2.0'),
        ((*FEW, '--seed', '-1'), 'the seed is -1, but it must be at least 0'),
        (
            (*FEW, '--cfg-options', 'data.val=None'),
            'the config has no data.val: choices are made on images held out from training, never',
        ),
        (
            (*FEW, '--cfg-options', 'data.test=None'),
            'the config has no data.test: all figures are measured on the test images',
        ),
        (('--list', 'none.txt'), 'none.txt, but there is no such file'),
        (('--list', '.'), 'cannot be read: '),
        (('--list', 'empty.txt'), 'the list empty.txt is empty; it needs one image per line'),
        (
            ('--list', 'other.txt'),
            "1 of 1 names in the list other.txt are not in the data set, the first is 'cat.png'; "
            'its 180 images',
        ),
        (('--list', 'twice.txt'), 'names 1 images twice'),
        (('--list', 'one.txt'), 'the 18 labelled images are all of one class'),
        (('--list', 'held.txt'), 'all images of the hold-out are in the list held.txt'),
    ],
)
def test_mistakes_get_one_sentence(tool, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    digits = Digits('val')
    (tmp_path / 'empty.txt').write_text('\n')
    (tmp_path / 'other.txt').write_text('cat.png\n')
    (tmp_path / 'twice.txt').write_text(f'{digits.name(0)}\n{digits.name(1)}\n{digits.name(0)}\n')
    write_list('one.txt', digits, np.flatnonzero(digits.labels == 3))
    write_list('held.txt', digits, np.arange(180))
    code, _, err = tool(*arguments)
    [line] = [line for line in err.splitlines() if line.startswith('error: ')]
    assert code == 2 and words in line and 'Traceback' not in err
    assert not (tmp_path / 'work' / 'results.jsonl').exists()


def test_no_checkpoint_and_no_folder_to_write_to_get_one_sentence(tool, tmp_path):
    code, _, err = tool(*FEW, checkpoint=tmp_path / 'none.pth')
    assert code == 2 and err.splitlines() == [
        f'error: there is no checkpoint at {tmp_path / "none.pth"}'
    ]
    (tmp_path / 'file').write_text('')
    code, _, err = tool(*FEW, work=tmp_path / 'file')
    assert (
        code == 2 and err.splitlines()[-1].startswith('error: ') and str(tmp_path / 'file') in err
    )


def test_what_is_no_number_is_told_by_the_parser_and_help_is_there(tool, capsys):
    for arguments in ((*FEW, '--draws', '1.5'), (*FEW, '--lrs', 'fast'), (*FEW, '--colour')):
        with pytest.raises(SystemExit) as stopped:
            tool(*arguments)
        assert stopped.value.code == 2 and 'error: ' in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        tool('--help')
    out = capsys.readouterr().out
    assert stopped.value.code == 0 and '--from-scratch' in out and 'a share such as 1%' in out
