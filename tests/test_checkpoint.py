"""Checkpoints: what they give back, what is refused, what resumes, what a full disk costs."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_zoo.build import load_method
from ssl_zoo.checkpoint import (
    FORMAT,
    add_digest,
    check_resumable,
    checkpoints_in,
    newest_checkpoint,
    read_checkpoint,
)
from ssl_zoo.data.sources.folder import Images
from ssl_zoo.engine.resume import resolve_resume
from ssl_zoo.engine.trainer import build_trainer
from ssl_zoo.engine.work_dir import claim
from ssl_zoo.errors import ConfigError

TINY_DATA = dict(train=dict(type='Digits', split='val'), val=40, mean=[0.5] * 3, std=[0.5] * 3)


def train(settings, work_dir, **arguments):
    runner = build_trainer(settings, work_dir, **arguments)
    runner.fit()
    return runner


def test_a_checkpoint_gives_back_the_method(tiny, tmp_path):
    runner = train(tiny(), tmp_path)
    method, settings, step = load_method(checkpoints_in(tmp_path)[0])
    x = torch.randn(4, 3, 20, 20)
    assert not method.training and settings.to_builtin() == tiny().to_builtin() and step == 14
    assert torch.equal(method.embed(x), runner.method.eval().embed(x))


def test_a_checkpoint_needs_no_trust_and_a_hostile_one_is_refused(tiny, tmp_path):
    train(tiny(), tmp_path)
    assert torch.serialization.get_unsafe_globals_in_checkpoint(checkpoints_in(tmp_path)[0]) == []

    class Hostile:
        def __reduce__(self):
            return open, (str(tmp_path / 'executed'), 'w')

    torch.save(dict(format='ssl_zoo checkpoint 3', method=Hostile()), tmp_path / 'hostile.pth')
    with pytest.raises(ConfigError, match='would run code when loaded'):
        load_method(tmp_path / 'hostile.pth')
    assert not (tmp_path / 'executed').exists()


def test_a_config_in_a_checkpoint_cannot_name_code(tiny, tmp_path):
    train(tiny(), tmp_path)
    content = read_checkpoint(checkpoints_in(tmp_path)[0])
    marker = tmp_path / 'executed'
    (tmp_path / 'evil.py').write_text(f'open({str(marker)!r}, "w")')
    for change in (
        dict(method=dict(type='os.system', command=f'touch {marker}')),
        dict(imports=[str(tmp_path / 'evil.py')]),
    ):
        torch.save(
            add_digest({**content, 'config': {**content['config'], **change}}),
            tmp_path / 'evil.pth',
        )
        if 'method' in change:
            with pytest.raises(ConfigError, match='not a registered method'):
                load_method(tmp_path / 'evil.pth')
        else:
            load_method(tmp_path / 'evil.pth')
        assert not marker.exists()


def test_foreign_torn_and_missing_checkpoints_get_a_sentence(tiny, tmp_path):
    train(tiny(), tmp_path / 'run')
    newest, before = checkpoints_in(tmp_path / 'run')
    newest.write_bytes(newest.read_bytes()[:5000])
    reports = []
    assert newest_checkpoint(tmp_path / 'run', reports.append, rename=True)['step'] == 7
    assert 'step_00000014.pth is not a readable checkpoint' in reports[0]
    assert [p.name for p in checkpoints_in(tmp_path / 'run')] == [before.name]
    resumed = train(tiny(), tmp_path / 'run', resume=True)  # and the lost one is made again
    made, now = read_checkpoint(newest)['method'], resumed.method.state_dict()
    assert all(torch.equal(made[k], now[k]) for k in now)
    torch.save(dict(state_dict={}), tmp_path / 'foreign.pth')
    for path, words in (
        (tmp_path / 'foreign.pth', 'not a checkpoint of ssl_zoo'),
        (tmp_path / 'none.pth', 'there is no checkpoint'),
    ):
        with pytest.raises(ConfigError, match=words):
            read_checkpoint(path)
    with pytest.raises(ConfigError, match='nothing to resume'):
        newest_checkpoint(tmp_path / 'empty')


def test_weights_that_do_not_fit_are_refused(tiny, tmp_path):
    train(tiny(), tmp_path)
    content = read_checkpoint(checkpoints_in(tmp_path)[0])
    content['config']['method']['hidden_dim'] = 48
    torch.save(add_digest(content), tmp_path / 'other.pth')
    with pytest.raises(ConfigError, match='does not fit BYOL: size mismatch'):
        load_method(tmp_path / 'other.pth')


def test_resuming_another_run_is_refused(tiny, tmp_path):
    train(tiny(data=TINY_DATA), tmp_path)
    for change, words in (
        (dict(data=TINY_DATA, epochs=3), 'cannot resume: epochs was 2 and is 3'),
        (dict(data=TINY_DATA, seed=1), 'seed was 0 and is 1'),
        (dict(data=TINY_DATA, precision='bf16'), "precision was 'float32' and is 'bf16'"),
        (dict(data={**TINY_DATA, 'mean': [0.4] * 3}), 'data.mean was'),
        (
            dict(data={**TINY_DATA, 'train': dict(type='Digits', split='test')}),
            "data.train.split was 'val' and is 'test'",
        ),
        (
            dict(data={**TINY_DATA, 'train': dict(type='Digits', split='val', size=24)}),
            'data.train.size was None and is 24',
        ),
        (dict(data={**TINY_DATA, 'val': None}), '140 images and has 180'),
    ):
        with pytest.raises(ConfigError, match=words):
            build_trainer(tiny(**change), tmp_path, resume=True)
    with pytest.raises(ConfigError, match='already holds a run'):
        build_trainer(tiny(), tmp_path)
    with pytest.raises(ConfigError, match='holds step_00000014.pth, which is not an earlier'):
        build_trainer(tiny(), tmp_path, resume=str(checkpoints_in(tmp_path)[1]))


def photos(root, seed=0):
    """Forty pictures whose files have one size in bytes."""
    rng = np.random.default_rng(seed)
    root.mkdir(parents=True)
    for k in range(40):
        Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(root / f'{k}.bmp')
    return root


def test_no_run_resumes_on_other_pictures_of_the_same_names(tiny, tmp_path):
    def run_of(root):
        return tiny(data=dict(train=dict(type='Images', root=str(root))), online_eval=dict(every=0))

    root = photos(tmp_path / 'photos')
    work_dir = tmp_path / 'run'
    runner = train(run_of(root), work_dir)
    content = read_checkpoint(checkpoints_in(work_dir)[0])
    assert check_resumable(content, run_of(root), Images(str(root))) is None

    copied = shutil.copytree(root, tmp_path / 'copied', copy_function=shutil.copyfile)
    warning = check_resumable(content, run_of(copied), Images(str(copied)))
    assert 'other modification times' in warning and 'taken for a copy' in warning
    build_trainer(run_of(copied), work_dir, resume=True).load_or_resume()
    assert warning in (work_dir / 'train.log').read_text()

    exchanged = photos(tmp_path / 'exchanged', seed=1)
    with pytest.raises(ConfigError, match='other images of the same names .the pixels differ'):
        check_resumable(content, run_of(exchanged), Images(str(exchanged)))
    Image.new('RGB', (30, 24)).save(root / '17.bmp')
    with pytest.raises(ConfigError, match='other images of the same names .the sizes of'):
        build_trainer(run_of(root), work_dir, resume=True)
    del content['data_identity']  # as in checkpoints of earlier versions
    assert check_resumable(content, run_of(root), Images(str(root))) is None
    assert runner.step == content['step']


def test_no_run_resumes_on_other_pixels(tiny, tmp_path, monkeypatch):
    train(tiny(), tmp_path)
    monkeypatch.setattr('ssl_zoo.checkpoint.VIEW_VERSION', 0)
    with pytest.raises(
        ConfigError,
        match='views have other pixels; continue with that version, or start a new run',
    ):
        build_trainer(tiny(), tmp_path, resume=True)
    with pytest.raises(ConfigError, match='data.on_device was False and is True'):
        build_trainer(tiny(data={**TINY_DATA, 'on_device': True}), tmp_path, resume=True)


def test_a_complete_run_has_nothing_to_resume(tiny, tmp_path):
    train(tiny(data=TINY_DATA), tmp_path)
    before = {p: p.read_bytes() for p in (checkpoints_in(tmp_path)[0], tmp_path / 'results.jsonl')}
    train(tiny(data=TINY_DATA), tmp_path, resume=True)
    assert all(p.read_bytes() == content for p, content in before.items())
    assert 'the run is complete' in (tmp_path / 'train.log').read_text()


def test_seconds_count_all_legs(tiny, tmp_path):
    runner = train(tiny(), tmp_path)
    content = read_checkpoint(checkpoints_in(tmp_path)[1])
    assert 0 < content['seconds'] < runner.train_seconds
    content['seconds'] = 1000.0
    torch.save(add_digest(content), checkpoints_in(tmp_path)[1])
    checkpoints_in(tmp_path)[0].unlink()
    assert 1000 < train(tiny(), tmp_path, resume=True).train_seconds < 1100


def test_runs_that_start_at_once_get_directories_of_their_own(tiny, tmp_path):
    runs = [build_trainer(tiny(), tmp_path / 'run', unique=True) for _ in range(3)]
    assert [run.work_dir.rsplit('/', 1)[1] for run in runs] == ['run', 'run-2', 'run-3']


def test_a_full_disk_costs_a_checkpoint_not_the_run(tiny, tmp_path, monkeypatch):
    runner = build_trainer(tiny(), tmp_path)
    real = torch.save

    def full(content, file):
        if content['step'] == 7:
            file.write(b'torn')
            raise OSError(28, 'No space left on device')
        real(content, file)

    monkeypatch.setattr(torch, 'save', full)
    runner.fit()
    assert sorted(p.name for p in (tmp_path / 'checkpoints').iterdir()) == ['step_00000014.pth']
    assert 'No space left on device; training goes on' in (tmp_path / 'train.log').read_text()
    assert not runner.checkpoints.failed  # the last one was written


def test_keep_limits_the_checkpoints(tiny, tmp_path):
    train(tiny(epochs=4, checkpoint=dict(every=1, keep=2)), tmp_path)
    assert [p.name for p in checkpoints_in(tmp_path)] == ['step_00000028.pth', 'step_00000021.pth']


# ---- nothing is taken for damaged or for a checkpoint that is not


def fake_run(folder, *steps):
    """A folder of checkpoints without weights, which read_checkpoint reads."""
    (folder / 'checkpoints').mkdir(parents=True, exist_ok=True)
    for step in steps:
        content = dict(format=FORMAT, config=dict(method={}, data={}), step=step, method={})
        torch.save(add_digest(content), folder / 'checkpoints' / f'step_{step:08d}.pth')


@pytest.mark.parametrize(
    'name',
    [
        'step_best.pth',
        'step_00000007_backup.pth',
        'step_00000007 (copy).pth',
        'step_7.pth',
        'step_000000070.pth',
        'step_٠٠٠٠٠٠٠٧.pth',
        'step_00000007.pth\n',
        'step_00000099.pth.bak',
    ],
)
def test_files_with_other_names_are_not_checkpoints(tmp_path, name):
    fake_run(tmp_path, 3, 5)
    (tmp_path / 'checkpoints' / name).touch()
    assert [path.name for path in checkpoints_in(tmp_path)] == [
        'step_00000005.pth',
        'step_00000003.pth',
    ]
    assert newest_checkpoint(tmp_path, rename=True)['step'] == 5


def test_pruning_leaves_the_files_of_the_user(tiny, tmp_path):
    names = ['step_00000001_backup.pth', 'step_00000001 (copy).pth', 'step_best.pth']
    (tmp_path / 'checkpoints').mkdir()
    for name in names:
        (tmp_path / 'checkpoints' / name).write_text('mine')
    train(tiny(checkpoint=dict(every=1, keep=1)), tmp_path)
    left = {path.name for path in (tmp_path / 'checkpoints').iterdir()}
    assert left == {*names, 'step_00000014.pth'}
    assert all((tmp_path / 'checkpoints' / name).read_text() == 'mine' for name in names)


@pytest.mark.parametrize(
    'error',
    [
        PermissionError(13, 'Permission denied'),
        OSError(5, 'Input/output error'),
        MemoryError(),
        RuntimeError('[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: not enough memory'),
        RuntimeError('PytorchStreamReader failed reading file data/0: file read failed'),
    ],
)
def test_a_failed_read_is_no_proof_of_damage(tmp_path, monkeypatch, error):
    fake_run(tmp_path, 3, 5)
    before = {path: path.read_bytes() for path in checkpoints_in(tmp_path)}

    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(torch, 'load', fail)
    if isinstance(error, OSError):
        monkeypatch.setattr('zipfile.is_zipfile', fail)
    with pytest.raises(ConfigError, match='step_00000005.pth .* it may be whole'):
        newest_checkpoint(tmp_path, rename=True)
    assert {path: path.read_bytes() for path in checkpoints_in(tmp_path)} == before


@pytest.mark.parametrize('kind', ['text', 'old format', 'foreign objects', 'without step'])
def test_files_that_are_not_damaged_keep_their_names(tmp_path, kind):
    fake_run(tmp_path, 3)
    path = tmp_path / 'checkpoints' / 'step_00000005.pth'
    if kind == 'text':
        path.write_text('my notes')
    elif kind == 'old format':
        torch.save(add_digest(dict(format='ssl_zoo checkpoint 2')), path)
    elif kind == 'foreign objects':
        torch.save(dict(format=FORMAT, made=Path('x')), path)
    else:
        torch.save(add_digest(dict(format=FORMAT, config={}, method={})), path)
    before = path.read_bytes()
    with pytest.raises(ConfigError, match='cannot resume: .*step_00000005.pth'):
        newest_checkpoint(tmp_path, rename=True)
    assert path.read_bytes() == before


def test_a_damaged_checkpoint_is_renamed_under_the_lock_alone(tmp_path):
    fake_run(tmp_path, 3, 5)
    newest = checkpoints_in(tmp_path)[0]
    newest.write_bytes(newest.read_bytes()[:-100])
    reports = []
    assert newest_checkpoint(tmp_path, reports.append)['step'] == 3 and newest.exists()
    assert 'the one before it is tried' in reports[0]
    for name in ('step_00000005.pth.unreadable', 'step_00000005.pth.unreadable-2'):
        data = newest.read_bytes()
        assert newest_checkpoint(tmp_path, reports.append, rename=True)['step'] == 3
        assert (newest.parent / name).read_bytes() == data and not newest.exists()
        newest.write_bytes(b'PK')  # the next damaged file of the same step


def test_a_folder_that_cannot_be_read_is_not_taken_for_empty(tmp_path, monkeypatch):
    def fail(folder):
        raise PermissionError(13, 'Permission denied')

    monkeypatch.setattr('os.listdir', fail)
    with pytest.raises(ConfigError, match='Permission denied; make it readable'):
        resolve_resume(tmp_path, 'auto')


def test_auto_starts_no_run_where_only_damaged_checkpoints_are(tiny, tmp_path):
    fake_run(tmp_path / 'run', 3, 5)
    for path in checkpoints_in(tmp_path / 'run'):
        path.write_bytes(path.read_bytes()[:-100])
    for _ in range(2):  # the first call renames them, and the second finds the renamed ones
        with pytest.raises(ConfigError, match=r'nothing to resume: .*step_00000005\.pth'):
            build_trainer(tiny(), tmp_path / 'run', resume='auto')
    assert sorted(path.name for path in (tmp_path / 'run/checkpoints').iterdir()) == [
        'step_00000003.pth.unreadable',
        'step_00000005.pth.unreadable',
    ]
    with pytest.raises(ConfigError, match='already holds a run'):
        build_trainer(tiny(), tmp_path / 'run')


@pytest.mark.parametrize('resume', [False, 'auto', 'path'])
def test_of_two_runs_that_start_at_once_the_slower_is_refused(tiny, tmp_path, monkeypatch, resume):
    """The other run starts and ends between the first check and the lock."""
    if resume == 'path':
        train(tiny(), tmp_path / 'first')
        resume = str(checkpoints_in(tmp_path / 'first')[1])

    def claim_late(work_dir):
        fake_run(work_dir, 14)
        return claim(work_dir)

    monkeypatch.setattr('ssl_zoo.engine.trainer.claim', claim_late)
    with pytest.raises(ConfigError, match=r'holds (a run \()?step_00000014.pth'):
        build_trainer(tiny(), tmp_path / 'run', resume=resume)
    [left] = checkpoints_in(tmp_path / 'run')
    assert read_checkpoint(left)['step'] == 14


def test_the_newest_checkpoint_is_chosen_under_the_lock(tiny, tmp_path, monkeypatch):
    runner = train(tiny(), tmp_path)
    newest = checkpoints_in(tmp_path)[0]
    data = newest.read_bytes()
    newest.unlink()

    def claim_late(work_dir):
        newest.write_bytes(data)
        return claim(work_dir)

    monkeypatch.setattr('ssl_zoo.engine.trainer.claim', claim_late)
    resumed = build_trainer(tiny(), tmp_path, resume=True)
    assert resumed.checkpoint_to_resume['step'] == runner.max_steps
