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
        'gpu',
        'input_path',
        'loop',
        'memory',
        'on_device',
        'optimizer',
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


def test_the_gpu_script_on_a_cpu(benchmarks):
    script = benchmarks('gpu')
    if script.DEVICE.type == 'cpu':
        with pytest.raises(SystemExit, match='there is no GPU here'):
            sys.argv = ['gpu.py', 'step']
            script.main()
    ours = script.Ours(2, compiled=False, tiny=True)
    ours.method.data_preprocessor = script.There(2)
    assert ours({}).isfinite()
    assert script.peak(tiny=True) > 0


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
