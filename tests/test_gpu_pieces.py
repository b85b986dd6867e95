"""The pieces of benchmarks/gpu, in small on the CPU; their figures mean nothing."""

import importlib
import json
import sys
import time

import numpy as np
import pytest
import torch


@pytest.fixture
def gpu(root, monkeypatch):
    """Function: a module of benchmarks/gpu."""
    monkeypatch.syspath_prepend(str(root / 'benchmarks/gpu'))
    threads = torch.get_num_threads()
    before = set(sys.modules)
    yield importlib.import_module
    torch.set_num_threads(threads)
    for folder in ('benchmarks', 'benchmarks/gpu'):
        for path in (root / folder).glob('*.py'):
            if path.stem in set(sys.modules) - before:
                del sys.modules[path.stem]


@pytest.fixture
def session(gpu, tmp_path):
    """Function: a call of a piece."""
    module = gpu('session')

    def make(piece='a', minutes=5.0, small=True):
        return module.Session(piece, 'a title', tmp_path, tmp_path / 'data', small, minutes)

    return make


# The call and its record


def test_a_part_is_done_once_and_its_error_is_kept(session, tmp_path):
    first = session()
    assert first.part('one', 0, lambda: dict(value=1)) == dict(value=1)
    first.part('two', 0, lambda: 1 / 0)
    record = json.loads((tmp_path / 'a.json').read_text())
    assert record['figures'] == dict(
        one=dict(value=1), two=dict(error='ZeroDivisionError: division by zero')
    )
    assert set(record) >= {'card', 'driver', 'torch', 'commit', 'command', 'time', 'curves'}
    again = session()
    assert again.part('one', 0, lambda: pytest.fail('done already')) == dict(value=1)
    assert again.part('two', 0, lambda: dict(value=2)) == dict(value=2)
    assert again.part('three', 0, lambda: dict(complete=False)) == dict(complete=False)
    assert again.unfinished == ['three']
    assert again.part('three', 0, lambda: dict(complete=True)) == dict(complete=True)


def test_when_its_time_is_up_a_piece_writes_what_it_has(session, tmp_path):
    call = session(minutes=0.3 / 60)
    call.left = lambda: 100.0
    seen = []

    def piece(call):
        call.part('first', 0, lambda: dict(value=1))
        call.part('long', 0, lambda: time.sleep(20))
        seen.append('after')

    started = time.monotonic()
    call.run(piece)
    assert time.monotonic() - started < 10 and seen == []
    assert json.loads((tmp_path / 'a.json').read_text())['unfinished'] == ['long']
    assert call.figures == dict(first=dict(value=1))


def test_a_part_without_time_is_left_for_the_next_call(session):
    call = session(minutes=1, small=False)
    assert call.part('long', 100, lambda: pytest.fail('no time')) is None
    assert call.unfinished == ['long']


def test_the_curve_is_kept_over_calls(session):
    first = session()
    first.curves['run'] = [[0, 0.5, 10.0]]
    first.write()
    assert session().curves == dict(run=[[0, 0.5, 10.0]])


# The pieces


@pytest.mark.long
def test_the_steps_of_resnet50(gpu, session):
    call = session()
    step = gpu('resnet50_step')
    figures = step.measure_step(call, 4, most=1e12)
    assert figures['rows']['ssl_zoo']['images_per_second'] > 0 and figures['operations'] > 1e6
    assert set(figures['rows']) | set(figures['left_out']) >= {'ssl_zoo', 'lightly'}
    assert step.peak(small=True) > 0


@pytest.mark.long
def test_every_method_trains(gpu, session):
    call = session()
    gpu('methods_and_step').run(call)
    methods = {'method barlow_twins/digits', 'method byol/digits'}
    assert set(call.figures) == methods | {'peak', 'step, batch 4', 'step from JPEGs'}
    check_table(gpu, call)  # no part has failed


@pytest.mark.long
def test_the_profile(gpu, session):
    call = session('c')
    gpu('cifar_profile').run(call)
    assert 0 < call.figures['times']['views_alone_of_step'] < 1
    assert 0 < call.figures['profile']['views_of_step'] < 1
    assert len(call.figures['profile']['kernels']) == 15
    check_table(gpu, call)


def test_the_search(gpu, session):
    call = session('g')
    gpu('knn_search').run(call)
    assert call.figures['CIFAR-10']['agreement'] > 0.9
    assert 'faiss_seconds' not in call.figures['ImageNet']
    check_table(gpu, call)


def test_both_searches_find_the_same_neighbours(gpu):
    script = gpu('knn_search')
    bank, queries = torch.randn(2, 40, 8)
    found = script.torch_neighbours(bank, queries, 5)
    expected = np.argsort(-(queries @ bank.T).numpy(), axis=1)[:, :5]
    assert (found == expected).all()


def test_one_process_of_a_group(gpu, session):
    call = session('h')
    gpu('nccl').run(call)
    assert all(call.figures['collectives'].values())
    for name in ('DistributedDataParallel', 'FSDP'):
        assert call.figures[name]['gradient_difference'] < 1e-5
    check_table(gpu, call)


@pytest.mark.long
@pytest.mark.parametrize(
    ('piece', 'path', 'runs'),
    [
        ('b', 'cifar_runs.byol', ['BYOL']),
        ('d', 'cifar_runs.race_to_90', ['race']),
        ('e', 'cifar_runs.others', ['SimCLR', 'MoCo v2']),
        ('f', 'imagenette_runs.run', ['BYOL', 'SimCLR']),
    ],
)
def test_the_trainings(gpu, session, piece, path, runs):
    call = session(piece)
    module, function = path.split('.')
    call.run(getattr(gpu(module), function))
    for name in runs:
        assert call.figures[name]['complete'] and call.figures[name]['steps'] > 0, name
    assert len(call.curves) == len(runs)
    assert all(len(curve) == 2 for curve in call.curves.values())  # random weights, and an epoch
    check_table(gpu, call)


def check_table(gpu, call):
    """The table of a record has its figures, and says what is missing."""
    call.write()
    record = json.loads(call.path.read_text())
    tables = gpu('tables')
    title, make = tables.PIECES[call.piece]
    assert '| --- |' in make(record)
    assert tables.provenance(record) and tables.missing(record) == []


# The tables, the command, the pack


def test_a_piece_without_a_record_is_named_as_not_measured(gpu, session, tmp_path, root):
    tables = gpu('tables')
    assert list(tables.PIECES) == list('abcdefgh')
    assert tables.tables(tmp_path).count('Not measured; run `python benchmarks/gpu') == 8
    call = session('g')
    call.part('CIFAR-10', 0, lambda: dict(queries=9, rows=8, dimensions=7, torch_seconds=1.0))
    call.part('ImageNet', 0, lambda: 1 / 0)
    assert tables.tables(tmp_path).count('Not measured') == 8  # figures of --small are none
    call.small = False
    call.unfinished = ['more']
    call.write()
    text = tables.tables(tmp_path)
    assert text.count('Not measured') == 7 and '| CIFAR-10 | 9 x 8 x 7 | 1.00 | - | - |' in text
    assert 'Failed: ImageNet (ZeroDivisionError: division by zero).' in text
    assert 'Not finished: more.' in text


def test_the_page_names_every_file_and_piece(root):
    text = (root / 'benchmarks/gpu/README.md').read_text()
    for path in (root / 'benchmarks/gpu').glob('*.py'):
        assert f'`{path.name}`' in text, path.name
    assert all(f'\n| {piece} | ' in text for piece in 'abcdefgh')


def test_photographs_are_encoded_until_they_fit(gpu, image_folder, tmp_path, monkeypatch):
    prepare = gpu('prepare')
    folder = image_folder(classes=2, per_class=2, size=100)
    for path in folder.rglob('*.png'):
        prepare.Image.open(path).save(path.with_suffix('.JPEG'), quality=95)
    monkeypatch.setattr(prepare, 'PACK', tmp_path)
    monkeypatch.setattr(prepare, 'ENCODINGS', ((100, 95), (50, 50), (20, 10)))
    sizes = [
        sum(len(content) for _, content in prepare.encoded(folder, side, quality))
        for side, quality in prepare.ENCODINGS
    ]
    room = (sizes[0] + sizes[1]) // 2 + 4 * 1024
    prepare.pack_imagenette(folder, tmp_path / 'imagenette.tar', room)
    note = json.loads((tmp_path / 'imagenette.json').read_text())['encoding']
    assert note == 'short side at most 50 px, JPEG quality 50, not as distributed'
    environment = gpu('environment')
    environment.unpack(tmp_path / 'imagenette.tar', tmp_path / 'data')
    assert len(list((tmp_path / 'data/imagenette').rglob('*.jpg'))) == 4
