"""tools/linear.py as a user runs it."""

import importlib
import json
import os
import signal

import numpy as np
import pytest

from ssl_zoo.evaluation import classifier_training
from ssl_zoo.evaluation.logistic import STRENGTHS
from ssl_zoo.evaluation.predictions import Predictions
from ssl_zoo.evaluation.protocols import linear, linear_cached
from ssl_zoo.evaluation.protocols.describe import describe_row
from ssl_zoo.evaluation.recipes import LINEAR

QUICK = ('--epochs', '0.2', '--batch-size', '20')  # one step


@pytest.fixture
def tool(root, checkpoint, tmp_path, capsys):
    """Function: run the tool in this process on the checkpoint; (exit code, stdout, stderr)."""
    module = importlib.import_module('ssl_zoo.cli.linear')

    def run(*arguments, checkpoint=checkpoint):
        code = module.main([str(checkpoint), '--work-dir', str(tmp_path), *map(str, arguments)])
        done = capsys.readouterr()
        return code, done.out, done.err

    return run


def rows(tmp_path):
    return [json.loads(line) for line in (tmp_path / 'results.jsonl').read_text().splitlines()]


def test_an_evaluation_from_the_command_line(run_tool, root, checkpoint, tmp_path):
    done = run_tool(
        root / 'tools/linear.py',
        checkpoint,
        '--preset',
        'mocov3',
        '--epochs',
        2,
        '--batch-size',
        20,
        '--lrs',
        0.5,
        5,
        50,
        '--work-dir',
        tmp_path,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    [row] = rows(tmp_path)
    *choice, figure, where = done.stdout.splitlines()
    assert (
        choice[0] == 'top-1 in percent on 40 held-out images'
        and sum('<- chosen' in line for line in choice) == 1
    )
    assert (
        figure.startswith(f'top-1 {row["value"]:.2f} % (95 % interval')
        and where == f'  predictions in {row["predictions"]}'
    )
    assert figure.endswith(describe_row(row)) and '[trained, online backbone]' in figure
    saved = Predictions.load(row['predictions'])
    assert (
        row['value'] == pytest.approx(100 * np.mean(saved.predicted[:, 0] == saved.labels))
        and len(saved.names) == row['n'] == 60
    )
    assert '--preset mocov3' in row['command'] and row['command'].split()[0].endswith('linear.py')
    assert 'linear: 100%' in done.stderr and 'Traceback' not in done.stderr


@pytest.mark.parametrize('name', LINEAR)
def test_every_preset_runs(name, tool, tmp_path):
    code, out, err = tool('--preset', name, '--epochs', 0.2, '--batch-size', 20)
    assert code == 0, err
    [row] = rows(tmp_path)
    expected = json.loads(
        json.dumps(LINEAR[name].to_builtin() | dict(epochs=(0.2,), batch_size=20))
    )
    assert (
        row['recipe'] == expected
        and row['metric'] == 'linear_top1'
        and LINEAR[name].optimizer in describe_row(row)
    )
    settings = [f'lr {lr * 20 / 256 if LINEAR[name].per_256 else lr:g}' for lr in LINEAR[name].lrs]
    assert row['setting'].split(',')[0] in settings and (len(settings) > 1) == (
        'held-out images' in out
    )


def test_byol_is_the_default_and_the_run_s_folder_where_figures_go(
    tool, checkpoint, tmp_path, monkeypatch
):
    seen = []
    monkeypatch.setattr(linear, 'evaluate_linear', lambda *arguments: seen.append(arguments))
    assert tool()[0] == 0
    context, recipe, retrain, metric = seen.pop()
    assert (
        metric == 'top1'
        and recipe == LINEAR['byol']
        and retrain is False
        and str(context.work_dir) == str(tmp_path)
        and context.seed == 0
    )
    assert (
        tool(
            '--retrain',
            '--seed',
            3,
            '--network',
            'target',
            '--layer',
            'projector',
            '--random-weights',
            '--workers',
            1,
        )[0]
        == 0
    )
    context, _, retrain, _ = seen.pop()
    assert retrain is True and (
        context.seed,
        context.network,
        context.layer,
        context.weights,
        context.workers,
    ) == (3, 'target', 'projector', 'random weights', 1)
    assert tool('--work-dir', '')[0] == 0
    assert seen.pop()[0].work_dir == checkpoint.parents[1]


def test_arguments_change_the_recipe(tool, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(linear, 'evaluate_linear', lambda context, recipe, *_: seen.append(recipe))
    assert (
        tool(
            '--preset',
            'simsiam',
            '--lrs',
            1,
            2,
            '--weight-decays',
            0,
            1e-6,
            '--epochs',
            3.5,
            '--batch-size',
            64,
            '--crop',
            0.2,
            1,
            '--flip-p',
            0,
        )[0]
        == 0
    )
    assert seen == [
        LINEAR['simsiam'].with_changes(
            lrs=(1.0, 2.0),
            weight_decays=(0.0, 1e-6),
            epochs=(3.5,),
            batch_size=64,
            crop=(0.2, 1.0),
            flip_p=0.0,
        )
    ]


def test_cached_passes_strengths_on(tool, monkeypatch):
    seen = []
    monkeypatch.setattr(
        linear_cached, 'evaluate_cached', lambda *arguments: seen.append(arguments[1:])
    )
    for more in (
        (),
        ('--strengths', 1, 100, 0.1),
        ('--strengths',),
        ('--retrain', '--dtype', 'float16'),
    ):
        assert tool('--cached', *more)[0] == 0
    byol = LINEAR['byol']
    assert seen == [
        (byol, False, STRENGTHS, 'float32', 'top1'),
        (byol, False, (1.0, 100.0, 0.1), 'float32', 'top1'),
        (byol, False, (), 'float32', 'top1'),
        (byol, True, STRENGTHS, 'float16', 'top1'),
    ]


def test_labels_metric_and_classes_from_the_command_line(tool, tmp_path):
    arguments = ('--labels', '4-per-class', '--metric', 'mean_per_class', '--per-class')
    code, out, err = tool('--cached', *QUICK, '--strengths', 1, *arguments)
    assert code == 0, err
    assert [(row['metric'], row['bank_images']) for row in rows(tmp_path)] == [
        ('linear_cached_mean_per_class', 40),
        ('logistic_mean_per_class', 40),
    ]
    assert out.count('  class  images  correct  accuracy') == 2
    assert len(list((tmp_path / 'predictions').glob('*_confusion.csv'))) == 2


def test_cached_gives_two_figures_and_without_strengths_one(tool, tmp_path):
    code, out, err = tool('--cached', *QUICK, '--strengths', 0.01, 100, 1, '--dtype', 'float16')
    assert code == 0, err
    heads, regression = rows(tmp_path)
    assert (
        heads['metric'] == 'linear_cached_top1'
        and regression['metric'] == 'logistic_top1'
        and out.count('predictions in') == 2
    )
    assert regression['strength'] in (
        0.01,
        1,
        100,
    ) and 'strength chosen of 3 on 40' in describe_row(regression)
    assert tool('--cached', *QUICK, '--strengths')[0] == 0 and len(rows(tmp_path)) == 3


# --- Mistakes


def test_images_with_several_classes_get_their_mean_average_precision(tool, image_folder, tmp_path):
    root = image_folder(classes=3, per_class=8, size=8)
    lines = [f'class_{c}/{i}.png\t{c},{c // 2 + 3}\n' for c in range(3) for i in range(8)]
    (root / 'list.txt').write_text(''.join(lines))
    cfg = dict(type='FileList', path=str(root / 'list.txt'), separator=',')
    data = ('--cfg-options', f'data.train={cfg}', 'data.val=8', f'data.test={cfg}')
    code, out, err = tool('--strengths', 1, '--retrain', *data)
    assert code == 0, err
    [row] = rows(tmp_path)
    assert row['metric'] == 'logistic_map' and f'mean average precision {row["value"]:.2f} %' in out
    assert sorted(row['average_precision']) == list('01234')
    code, _, err = tool('--preset', 'byol', '--labels', '10%', '--per-class', '--cached', *data)
    assert code == 2 and 'leave out what is for others: --preset, --labels, --per-class' in err


NO_VAL = 'data.val=None'


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (('--preset', 'moco_v3'), "the preset is 'moco_v3': did you mean 'mocov3'"),
        (('--preset', ''), "the preset is ''"),
        (('--lrs', '0'), 'lrs is (0.0,), but it must be one or more numbers above 0'),
        (('--lrs', '0.1', '-0.1'), 'lrs is (0.1, -0.1)'),
        (('--lrs', 'nan'), 'lrs is'),
        (('--lrs', 'inf'), 'lrs is'),
        (('--epochs', '0'), 'epochs is'),
        (('--epochs', '-1'), 'epochs is'),
        (('--epochs', 'inf'), 'epochs is'),
        (('--epochs', '1', '2'), 'epochs'),
        (('--batch-size', '0'), 'batch_size is 0'),
        (('--batch-size', '-20'), 'batch_size is -20'),
        (('--weight-decays', '-1'), 'weight_decays is'),
        (('--weight-decays', 'inf'), 'weight_decays is'),
        (('--crop', '0', '1'), 'crop=(0.0, 1.0)'),
        (('--crop', '1', '0.2'), 'crop=(1.0, 0.2)'),
        (('--flip-p', '1.5'), 'flip_p=1.5'),
        (('--cached', '--strengths', '0'), 'strength'),
        (('--cached', '--strengths', '-1'), 'strength'),
        (('--cached', '--strengths', '1', 'nan'), 'strength'),
        (('--cached', '--strengths', 'inf'), 'strength'),
        (('--cfg-options', NO_VAL), 'the config has no data.val'),
        (('--cached', '--cfg-options', NO_VAL), 'the config has no data.val'),
        (('--retrain', '--lrs', '1', '--cfg-options', NO_VAL), 'the config has no data.val'),
        (('--cfg-options', 'data.test=None'), 'the config has no data.test'),
        (('--cfg-options', 'data.val=180'), 'data.val=180'),
        (('--cfg-options', 'epochs=3'), 'would change what was trained'),
        (('--eval-batch-size', '0'), 'the batch size is 0'),
        (('--metric', 'top-1'), "the metric is 'top-1': did you mean 'top1'"),
        (('--labels', '1%', '--retrain'), '--retrain would train on all labels of the hold-out'),
        (('--labels', '1%', '--list', 'x'), '--labels and --list both say'),
        (('--list', 'nowhere.txt'), 'looked for a list of labelled images at'),
        (('--workers', '-1'), 'workers'),
        (('--seed', '-1'), 'the seed is -1'),
        (('--seed', '99999999999999999999'), 'seed'),
        (('--network', 'teacher'), "has no 'teacher' network"),
        (('--layer', 'head'), "the layer is 'head'"),
        (('--precision', 'fp16'), "'fp16'"),
        (('--imports', 'nowhere.py'), 'nowhere.py'),
    ],
)
def test_mistakes_get_a_sentence(arguments, words, tool, tmp_path):
    code, out, err = tool(*arguments)
    lines = [line for line in err.splitlines() if line.startswith('error: ')]
    assert code == 2 and len(lines) == 1 and words in lines[0] and 'Traceback' not in err
    assert not (tmp_path / 'results.jsonl').exists()


@pytest.mark.parametrize(
    'arguments',
    [
        ('--lrs',),
        ('--lrs', 'a'),
        ('--crop', '0.5'),
        ('--dtype', 'int8'),
        ('--batch-size', '2.5'),
        ('--nonsense',),
    ],
)
def test_the_parser_refuses(arguments, tool):
    with pytest.raises(SystemExit) as ended:
        tool(*arguments)
    assert ended.value.code == 2


def test_no_checkpoint_and_a_foreign_one(tool, tmp_path):
    (tmp_path / 'text.pth').write_text('hello')
    for path, words in (
        (tmp_path / 'none.pth', 'there is no checkpoint at'),
        (tmp_path / 'text.pth', 'not a readable checkpoint'),
        (tmp_path, 'there is no checkpoint at'),
    ):
        code, _, err = tool(checkpoint=path)
        assert code == 2 and err.startswith('error: ') and words in err


def test_training_that_diverges_gets_a_sentence(tool, tmp_path):
    code, _, err = tool('--preset', 'moco', '--lrs', 1e38, 2e38, '--epochs', 3, '--batch-size', 20)
    assert (
        code == 3
        and 'error: the loss of every setting is not finite at step 20; lower the learning rates'
        in err
    )
    assert not (tmp_path / 'results.jsonl').exists()


def test_arguments_that_would_have_no_effect_are_refused(tool):
    for arguments in (
        ('--strengths', '1'),
        ('--cached', '--crop', '0.2', '1'),
        ('--cached', '--flip-p', '0'),
    ):
        code, _, err = tool(*QUICK, *arguments)
        assert code == 2 and 'error: ' in err and '--cached' in err, arguments


@pytest.mark.parametrize(
    ('sent', 'code'), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGUSR1, 138)]
)
def test_a_stop_is_told_and_the_same_command_goes_on(sent, code, tool, tmp_path, monkeypatch):
    arguments, steps, real = (
        ('--epochs', 1, '--batch-size', 20),
        [],
        classifier_training.seed_everything,
    )

    def counted(seed):
        steps.append(seed)
        if len(steps) == 3:
            os.kill(os.getpid(), sent)
        real(seed)

    monkeypatch.setattr(classifier_training, 'seed_everything', counted)
    got, _, err = tool(*arguments)
    assert (
        got == code
        and f'stopped by {sent.name} after step 3; the same command goes on from here' in err
        and 'Traceback' not in err
    )
    assert tool(*arguments)[0] == 0 and len(steps) == 7 and len(rows(tmp_path)) == 1
