"""tools/study.py: runs, failures, the report, a second call, the SLURM script."""

import importlib
import json
import os
import signal
import subprocess
import time

import pytest

STUDY = """
title = 'Two methods, one of which cannot work'
methods = {{
    'BYOL': {byol!r},
    'Broken': dict(config={byol!r}, options=['optimizer.type=SGD', 'method.hidden_dim=8']),
}}
recipe = [
    'epochs=1', 'warmup_epochs=0', 'batch_size=40', 'method.backbone.width=0.125',
    'method.proj_dim=16', 'data.train.split=val', 'data.val=40', 'data.on_device=True',
    'workers=0', 'online_eval.every=1', 'views.0.size=20', 'views.1.size=20',
]
seeds = [0]
evaluate = dict(linear=None, labels=[])
"""


@pytest.fixture(scope='module')
def done(run_tool, root, tmp_path_factory):
    """A study of two methods after its run: its folder, the command, what it printed."""
    folder = tmp_path_factory.mktemp('study')
    (folder / 'two.py').write_text(STUDY.format(byol=str(root / 'configs/byol/digits.py')))
    command = [root / 'tools/study.py', 'two.py', '--out', 'out', '--jobs', 2]
    broken = folder / 'out/runs/broken/seed_0'
    broken.mkdir(parents=True)
    (broken / '.lock').touch()  # an earlier run's
    (broken / 'views.png').mkdir()  # harmless: it costs the picture
    (broken / 'checkpoints').write_text('no folder')  # not so: no checkpoint can be written
    return folder, command, run_tool(*command, cwd=folder)


@pytest.mark.long
def test_one_failure_is_told_and_stops_nobody(done):
    folder, _, first = done
    assert first.returncode == 1 and 'Traceback' not in first.stdout + first.stderr, first.stderr
    assert (
        '2 methods x 1 seeds = 2 runs, the untrained network on 1 seeds; 0 of 3 done before'
        in first.stdout
    )
    assert (
        'Broken  seed 0  FAILED' in first.stdout
        and '2 of 3 done, 1 failed: the same command tries them again' in first.stdout
    )
    record = json.loads((folder / 'out/runs/byol/seed_0/record.json').read_text())
    table = (folder / 'out/report/table.md').read_text()
    assert (
        record['status'] == 'done'
        and f'{record["figures"]["knn"]:.2f}' in table
        and table in first.stdout
    )
    assert 'Two methods, one of which cannot work' in (folder / 'out/report/index.html').read_text()


@pytest.mark.long
def test_the_same_command_does_only_what_is_missing(done, run_tool):
    folder, command, _ = done
    (folder / 'out/runs/broken/seed_0/checkpoints').unlink()
    before = (folder / 'out/runs/byol/seed_0/record.json').stat().st_mtime_ns
    again = run_tool(*command, cwd=folder)
    assert (
        again.returncode == 0
        and '2 of 3 done before' in again.stdout
        and '3 of 3 done' in again.stdout
    ), again.stdout + again.stderr
    assert (folder / 'out/runs/byol/seed_0/record.json').stat().st_mtime_ns == before
    other = run_tool(*command, '--cfg-options', 'base_lr=3', cwd=folder)
    assert (
        other.returncode == 2
        and 'holds a run with other settings than the study has now' in other.stderr
    )


@pytest.mark.parametrize(
    ('arguments', 'sentence'),
    [
        (['nowhere.py'], 'there is no study at'),
        (['two.py', '--jobs', '0'], '--jobs is 0; it must be from 1 to 1024'),
        (['two.py', '--jobs', '2', '--devices', '0'], 'not given with --devices'),
        (['two.py', '--small'], 'has no small version'),
    ],
)
def test_mistakes(arguments, sentence, root, tmp_path, monkeypatch, capsys):
    (tmp_path / 'two.py').write_text(STUDY.format(byol=str(root / 'configs/byol/digits.py')))
    monkeypatch.chdir(tmp_path)
    main = importlib.import_module('ssl_zoo.cli.study').main
    assert main(arguments) == 2 and sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ('number', 'code'), [(signal.SIGUSR1, 138), (signal.SIGTERM, 143), (None, 1)]
)
def test_a_task_of_the_array_is_requeued_when_it_was_stopped(number, code, root, tmp_path):
    worker = (
        '#!/usr/bin/env bash\ntrap "exit 138" USR1; trap "exit 143" TERM\ntouch up\n[ "$2" = quick '
        '] && exit 1\n'
        'while :; do sleep 0.05; done\n'
    )
    for name, text in dict(
        python=worker, scontrol=f'#!/usr/bin/env bash\necho "$@" >> {tmp_path}/requeued\n'
    ).items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    env = {
        **os.environ,
        'PATH': f'{tmp_path}:{os.environ["PATH"]}',
        'SLURM_JOB_ID': '12',
        'SLURM_ARRAY_JOB_ID': '7',
        'SLURM_ARRAY_TASK_ID': '3',
        'SLURM_SUBMIT_DIR': str(tmp_path),
    }
    with subprocess.Popen(
        ['bash', str(root / 'tools/slurm_study.sh'), 'slow' if number else 'quick'],
        env=env,
        cwd=tmp_path,
    ) as job:
        deadline = time.time() + 600
        while not (tmp_path / 'up').exists() and time.time() < deadline:
            time.sleep(0.02)
        if number:
            time.sleep(0.1)
            os.kill(job.pid, number)
        assert job.wait(30) == code
    assert (tmp_path / 'requeued').exists() == bool(number)
    if number:
        assert (tmp_path / 'requeued').read_text() == 'requeue 7_3\n'
