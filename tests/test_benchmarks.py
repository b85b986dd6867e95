"""The benchmarks run, small, without their peers; their times are not checked."""

import sys

import pytest
import torch


@pytest.fixture
def benchmarks(root, monkeypatch):
    """Function: a script of benchmarks/ as a module."""
    import importlib

    monkeypatch.syspath_prepend(str(root / 'benchmarks'))
    threads = torch.get_num_threads()
    yield importlib.import_module
    torch.set_num_threads(threads)
    for name in (
        'common',
        'input_path',
        'loop',
        'memory',
        'on_device',
        'optimizer',
        'readability',
        'speedrun',
        'start',
        'step',
    ):
        sys.modules.pop(name, None)


def test_input_path(benchmarks):
    script, files = benchmarks('input_path'), benchmarks('common').jpegs(None, 3)
    script.keep_freed_memory = lambda: None  # not for the whole test process
    mean, worst = script.fidelity(files)
    assert 0 < mean <= worst < 1
    script.Ours(files, True)()
    assert set(script.parts(files, rounds=1)) >= {
        'decode, Pillow',
        'decode, ours',
        'two crops, ours',
    }


def test_images_on_the_device(benchmarks):
    script = benchmarks('on_device')
    script.BATCH = 8
    script.Ours(script.Clouds(16), torch.device('cpu'), compiled=False)()


@pytest.mark.long
def test_optimizer(benchmarks):
    figures = benchmarks('optimizer').measure(rounds=1, peers=False)
    assert all(row['milliseconds'] > 0 for rows in figures.values() for row in rows.values())


def test_loop(benchmarks):
    figures = benchmarks('loop').measure(rounds=1, steps=20)
    assert 0 < figures['bare']['added'] < 20_000


@pytest.mark.parametrize('method', ['BYOL', 'SimCLR', 'MoCo'])
def test_step(benchmarks, method):
    script = benchmarks('step')
    script.BACKBONE.update(width=0.125)
    views = script.views_of(4)
    step = script.Ours(method, views, 'bf16', compiled=False)
    step()
    step()
    assert all(loss.isfinite() for loss in step.losses) and step.losses[0] != step.losses[1]


def test_a_slower_or_worse_race_is_told(benchmarks):
    script = benchmarks('speedrun')
    record = dict(entry='e', target=45.0, reached=True, accuracy=45.2)
    records = [
        dict(record, epochs=3.0, processor_minutes=4.0),
        dict(record, epochs=4.0, processor_minutes=6.0),
        dict(record, epochs=9.0, processor_minutes=9.0, entry='another'),
    ]
    both = ('epochs', 'processor_minutes')
    slow = dict(record, epochs=5.0, processor_minutes=7.6)
    assert script.verdict(slow, records) == []
    assert script.verdict(slow, records, both) == ['7.60 processor_minutes, at most 7.50']
    late = dict(record, epochs=5.1, processor_minutes=7.5)
    assert script.verdict(late, records, both) == ['5.10 epochs, at most 5.00']
    missed = dict(record, epochs=9.0, reached=False, accuracy=41.0)
    assert script.verdict(missed, records) == ['45 % was not reached, but 41.00 %']


def test_what_is_started_is_timed(benchmarks):
    script = benchmarks('start')
    assert 0 < script.seconds_to(None, 'tools/train.py', '--help') < 20
    assert 0 < script.seconds_to('usage', 'tools/train.py', '--help') < 20
    with pytest.raises(SystemExit, match='never printed'):
        script.seconds_to('no such line', 'tools/train.py', '--help')


def test_the_page_names_every_script(root):
    text = (root / 'benchmarks/README.md').read_text()
    for path in (root / 'benchmarks').glob('*.py'):
        assert f'{path.name}' in text, path.name


SOURCE = '''"""A module."""

LONG = 'COLUMNS'


def short(x):
    """A docstring
    of two lines."""
    first, second = x, 2
    third, fourth = short(x)
    numbers = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]
    return first if second else third


def long(x):
    """One line."""
'''


@pytest.fixture
def tree(tmp_path):
    """A small clone: a package, a method, a command that reaches a loss through two files."""
    texts = {
        'README.md': 'three short words\n',
        'ssl_zoo/__init__.py': '',
        'ssl_zoo/a.py': SOURCE.replace('COLUMNS', 'x' * 100) + '    x += 1\n' * 45,
        'ssl_zoo/losses.py': 'def regression_loss():\n    return 0\n',
        'methods/byol.py': (
            'from ssl_zoo.losses import regression_loss\n'
            'def loss():\n'
            '    return max(1, 2, key=lambda _: regression_loss())\n'
        ),
        'tools/train.py': 'import sys\nsys.path.append("methods")\nimport byol\nbyol.loss()\n',
    }
    for name, text in texts.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_readability_counts(benchmarks, tree):
    script = benchmarks('readability')
    counts = script.count(tree)
    assert (counts.files, counts.lines) == (4, 66)
    assert (counts.long_lines, counts.dense_lines) == (1, 1)
    assert (counts.ternaries, counts.packed_assignments) == (1, 1)
    assert counts.functions == 4  # the lambda is none
    assert counts.long_functions == [(46, 'ssl_zoo/a.py:15 long')]
    assert counts.code_lines == 60
    assert script.readme_words(tree) == 3


def test_the_path_to_the_loss_leaves_out_other_code(benchmarks, tree):
    calls = benchmarks('readability').path_to_loss(tree)
    assert [(call.file, call.function) for call in calls] == [
        ('tools/train.py', '<module>'),
        ('methods/byol.py', 'loss'),
        ('methods/byol.py', '<lambda>'),
        ('ssl_zoo/losses.py', 'regression_loss'),
    ]


def test_a_command_that_does_not_reach_the_loss(benchmarks, tree):
    (tree / 'tools/train.py').write_text('print("done")\n')
    with pytest.raises(RuntimeError, match='ended without a call of regression_loss'):
        benchmarks('readability').path_to_loss(tree)
