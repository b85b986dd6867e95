"""tools/slurm_train.sh with a stand-in for srun that starts two tasks on this machine."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

SRUN = """#!/usr/bin/env bash
shift                                # --kill-on-bad-exit
for task in 0 1; do
    SLURM_STEP_NUM_TASKS=2 SLURM_PROCID=$task SLURM_LOCALID=$task SLURM_STEP_ID=0 \\
        SLURM_STEP_NODELIST=localhost SLURM_STEP_TASKS_PER_NODE=2 "$@" &
    tasks="${tasks:-} $!"
done
trap 'kill -USR1 $tasks' USR1
code=0
for task in $tasks; do
    while :; do wait $task; c=$?; kill -0 $task 2>/dev/null || break; done
    [ $c -gt $code ] && code=$c
done
exit $code
"""
# From a tenth of the training on, a step waits until the test has sent its signal.
METHOD = """
import os, time
from ssl_zoo.methods.byol import BYOL
from ssl_zoo.registry import METHODS

@METHODS.register_module()
class Waiting(BYOL):
    def loss(self, views, **batch):
        while self.progress > 0.1 and not os.path.exists('signalled'):
            time.sleep(0.02)
        return super().loss(views, **batch)
"""
CONFIG = """
imports = ['waiting.py']
backbone = dict(name='resnet18', stem='cifar', width=0.125, layers=[1, 1, 1, 1])
method = dict(type='Waiting', backbone=backbone, hidden_dim=32, proj_dim=16)
data = dict(train=dict(type='Digits', split='val'), val=40)
views = [dict(size=20)] * 2
optimizer = dict(type='LARS', momentum=0.9)
epochs = 8
batch_size = 20
base_lr = 1.0
workers = 0
log_every = 1
del backbone
online_eval = dict(every=0)
"""


@pytest.fixture
def slurm(tmp_path, root):
    """Function: the environment and command of a job."""

    def make(script: str, *arguments: str):
        for name, text in dict(
            srun=SRUN, scontrol=f'#!/usr/bin/env bash\necho "$@" >> {tmp_path}/requeued\n'
        ).items():
            (tmp_path / name).write_text(text)
            (tmp_path / name).chmod(0o755)
        (tmp_path / 'config.py').write_text(CONFIG)
        (tmp_path / 'waiting.py').write_text(METHOD)
        for folder in ('tools', 'configs'):
            if not (tmp_path / folder).exists():
                (tmp_path / folder).symlink_to(root / folder)
        env = {
            **os.environ,
            'PATH': f'{tmp_path}:{os.environ["PATH"]}',
            'SLURM_JOB_ID': str(os.getpid()),
            'PYTHON': sys.executable,
            'SLURM_SUBMIT_DIR': str(tmp_path),
            'OMP_NUM_THREADS': '1',
            'PYTHONPATH': os.pathsep.join(sys.path),
        }
        return dict(
            args=['bash', str(root / 'tools/slurm_train.sh'), *arguments],
            env=env,
            cwd=tmp_path,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    return make


def child_pids(pid: int) -> list[int]:
    done = subprocess.run(['pgrep', '-P', str(pid)], text=True, capture_output=True)
    return [int(child) for child in done.stdout.split()]


def logged_steps(run: Path) -> list[int]:
    rows = [json.loads(line) for line in (run / 'log.jsonl').read_text().splitlines()]
    return [row['step'] for row in rows if 'train/loss' in row]


@pytest.mark.long
def test_a_job_is_stopped_requeued_and_ends(slurm, tmp_path):
    job = slurm('srun', 'config.py')
    run = tmp_path / 'work_dirs' / f'slurm-{os.getpid()}'
    with subprocess.Popen(**job, start_new_session=True) as process:
        try:
            while not (run / 'log.jsonl').exists():
                assert process.poll() is None, process.stdout.read()
                time.sleep(0.05)
            for child in child_pids(process.pid):
                os.kill(child, signal.SIGUSR1)  # SLURM sends it to the tasks
            os.kill(process.pid, signal.SIGUSR1)  # and, if asked so, to the script
            (tmp_path / 'signalled').touch()
            out, _ = process.communicate(timeout=600)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 138 and 'back into the queue' in out, out
    assert 'Traceback' not in out and '2 processes x 10' in out, out
    assert (tmp_path / 'requeued').read_text() == f'requeue {os.getpid()}\n'
    last = logged_steps(run)[-1]
    assert last < 56
    done = subprocess.run(**job, timeout=600)
    assert done.returncode == 0 and f'resumed at step {last}' in done.stdout, done.stdout
    assert (tmp_path / 'requeued').read_text().count('requeue') == 1
    assert logged_steps(run) == list(range(1, 57))


@pytest.mark.long
def test_a_mistake_is_not_requeued(slurm, tmp_path):
    done = subprocess.run(**slurm('srun', 'config.py', '--cfg-options', 'epochs=0'), timeout=600)
    assert (
        done.returncode == 2
        and done.stdout.count('error: epochs=0') == 1
        and not (tmp_path / 'requeued').exists()
    ), done.stdout
    done = subprocess.run(**slurm('srun'), timeout=600)
    assert done.returncode == 2 and done.stdout.startswith('usage: sbatch')
