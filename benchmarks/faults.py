"""Kill runs at random moments and resume them: the final weights must not change.

    python benchmarks/faults.py                    # 30 kills; --kills 6 is quick, --json FILE

There are six runs: BYOL with two loader workers, MoCo in bf16 with its queue, and BYOL on two
processes, each twice. A run trains 20 epochs on 140 digits, with a checkpoint after every epoch and
k-NN and a linear probe after every second. Each run is killed five times with SIGKILL: in turn
during a step, while it writes a checkpoint, and during an evaluation, after a random delay. Of two
processes one is killed, and torchrun ends the other.

A run survives a kill if it resumes from the newest complete checkpoint and ends with the weights,
averages, queue and optimiser state of an undisturbed run, bit for bit. After a kill, the remaining
processes must end within 60 seconds.
"""

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
PHASES = ('step', 'saving', 'evaluation')
BYOL = 'dict(type="BYOL", backbone=_backbone, hidden_dim=1024, proj_dim=64, base_ema=0.9)'
MOCO = (
    'dict(type="MoCo", backbone=_backbone, hidden_dim=1024, proj_dim=64, '
    'queue_size=1000, bn_splits=2)'
)
RUNS = {
    'BYOL, 2 workers': (1, BYOL, 'workers=2'),
    'MoCo, queue, bf16': (1, MOCO, 'precision="bf16"'),
    'BYOL, 2 processes': (2, BYOL, ''),
}
CONFIG = """
_backbone = dict(name='resnet18', stem='cifar', width=0.125, layers=[1, 1, 1, 1])
method = {method}
data = dict(train=dict(type='Digits', split='val'), val=40, mean=[0.5] * 3, std=[0.5] * 3)
views = [dict(size=20, jitter=[0.4, 0.4, 0.2, 0.1], jitter_p=0.8, gray_p=0.2, blur_p=0.5)] * 2
optimizer = dict(type='LARS', momentum=0.9)
epochs, batch_size, base_lr, warmup_epochs, workers, log_every = {epochs}, 20, 1.0, 2, 0, 5
online_eval = dict(every=2, probe=True)
checkpoint = dict(every=1, keep=2)
parallel = dict(timeout=60)
{more}
"""


def child(arguments: list[str]) -> int:
    """The command train, which says in a file what it is doing: '<process> <phase>'."""
    from ssl_zoo.cli import train
    from ssl_zoo.engine.hooks.checkpoint import CheckpointHook
    from ssl_zoo.engine.hooks.online_evaluation import OnlineEvaluationHook
    from ssl_zoo.engine.loop import TrainLoop

    torch.set_num_threads(1)
    path = Path(f'{os.environ["PHASE_FILE"]}.{os.environ.get("RANK", 0)}')

    def telling(cls, name, phase):
        real = getattr(cls, name)

        def told(*args, **kwargs):
            path.write_text(f'{os.getpid()} {phase}')
            try:
                return real(*args, **kwargs)
            finally:
                path.write_text(f'{os.getpid()} between')

        setattr(cls, name, told)

    telling(TrainLoop, 'one_pass', 'step')
    telling(CheckpointHook, 'save', 'saving')
    telling(OnlineEvaluationHook, 'evaluate', 'evaluation')
    telling(OnlineEvaluationHook, 'report', 'evaluation')
    return train.main(arguments)


class Leg:
    """A start of a run, which ends by itself or is killed."""

    def __init__(self, folder: Path, processes: int, name: str):
        self.phase = folder / 'phase'
        self.work_dir = folder / name
        for left in folder.glob('phase.*'):
            left.unlink()
        launcher = (
            ['-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2']
            if processes == 2
            else []
        )
        env = {**os.environ, 'PHASE_FILE': str(self.phase), 'OMP_NUM_THREADS': '1'}
        self.log = open(folder / f'{name}.log', 'a+')
        self.before = self.log.tell()
        arguments = [
            '--child',
            folder / 'config.py',
            '--work-dir',
            self.work_dir,
            '--resume',
            'auto',
        ]
        self.process = subprocess.Popen(
            [sys.executable, *launcher, __file__, *map(str, arguments)],
            env=env,
            stdout=self.log,
            stderr=subprocess.STDOUT,
        )

    def kill(self, phase: str, entries: int, delay: float, victim: int) -> tuple[int, float] | None:
        """Send SIGKILL to a process of the run.

        Args:
            phase: the phase in which it is killed.
            entries: how often the process enters the phase before that.
            delay: seconds from entering the phase to the kill.
            victim: the rank of the process.

        Returns:
            The step of the newest complete checkpoint and the seconds until all processes had
            ended; None if the run ended before the kill.
        """
        path = Path(f'{self.phase}.{victim}')
        last = ''
        entered = 0
        deadline = time.time() + 300
        while self.process.poll() is None and time.time() < deadline:
            try:
                pid, now = path.read_text().split()
            except (OSError, ValueError):  # not there yet, or being written
                continue
            entered += now == phase != last
            last = now
            if entered >= entries:
                time.sleep(delay)
                os.kill(int(pid), signal.SIGKILL)
                killed = time.time()
                self.process.wait(120)
                return newest(self.work_dir), time.time() - killed
            time.sleep(0.0005)
        return None

    def finish(self) -> str:
        """Wait for the end; what this leg wrote."""
        self.process.wait(600)
        return self.said()

    def said(self) -> str:
        self.log.seek(self.before)
        return self.log.read()


def newest(work_dir: Path) -> int:
    """The step of the newest complete checkpoint, 0 if there is none."""
    return max(
        (int(p.stem.split('_')[1]) for p in (work_dir / 'checkpoints').glob('step_*.pth')),
        default=0,
    )


def final(work_dir: Path) -> dict:
    from ssl_zoo.checkpoint import read_checkpoint

    content = read_checkpoint(max((work_dir / 'checkpoints').glob('step_*.pth')))
    return dict(
        content['method'],
        **{f'{i} {k}': v for i, s in content['optimizer']['state'].items() for k, v in s.items()},
        step=torch.tensor(content['step']),
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--kills', type=int, default=30)
    parser.add_argument('--epochs', type=int, default=20)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--json', help='file for the figures')
    args = parser.parse_args()
    draw = random.Random(args.seed)
    started = time.time()
    survived = 0
    tried = 0
    per_run = max(args.kills // (2 * len(RUNS)), 1)
    notes = []
    slowest = 0.0
    by_phase = {phase: [0, 0] for phase in PHASES}
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, (processes, method, more)) in enumerate(RUNS.items()):
            home = Path(folder, str(number))
            home.mkdir()
            (home / 'config.py').write_text(
                CONFIG.format(method=method, more=more, epochs=args.epochs)
            )
            text = Leg(home, processes, 'whole').finish()
            assert 'random weights' in text and newest(home / 'whole') == args.epochs * 7, text[
                -2000:
            ]
            reference = final(home / 'whole')
            for again in range(2):
                if tried >= args.kills:
                    break
                run = f'run{again}'
                kills = []
                complete = 0
                fine = True
                while len(kills) < min(per_run, args.kills - tried):
                    phase = PHASES[(len(kills) + again + number) % 3]
                    leg = Leg(home, processes, run)
                    # A start makes some progress before it is killed: a step takes about 20 ms,
                    # writing a checkpoint 10 ms, an evaluation 100 ms.
                    entries = (
                        draw.randint(8, 25)
                        if phase == 'step'
                        else draw.randint(1, 3)
                        if phase == 'saving'
                        else draw.randint(1, 2)
                    )
                    delay = draw.uniform(
                        0, {'step': 0.02, 'saving': 0.012, 'evaluation': 0.15}[phase]
                    )
                    end = leg.kill(phase, entries, delay, draw.randrange(processes))
                    resumed = re.search(r'resumed at step (\d+)', leg.said())
                    if complete and (not resumed or int(resumed[1]) != complete):
                        fine = False
                        notes.append(
                            f'{name}: the newest checkpoint was of step {complete}: '
                            f'{leg.said()[-800:]}'
                        )
                    if end is None:
                        notes.append(
                            f'{name}: the run ended before kill {len(kills) + 1}: '
                            f'{leg.said()[-300:]}'
                        )
                        break
                    complete, seconds = end
                    slowest = max(slowest, seconds)
                    kills.append(phase)
                    fine &= seconds < 60
                text = Leg(home, processes, run).finish()
                ended = final(home / run) if newest(home / run) else {}
                same = ended.keys() == reference.keys() and all(
                    torch.equal(ended[key], reference[key]) for key in reference
                )
                rows = [(home / place / 'results.jsonl') for place in ('whole', run)]
                figures = [
                    json.loads(line)['value']
                    for path in rows
                    if path.exists()
                    for line in path.open()
                ]
                left_over = list((home / run).rglob('*.tmp.*'))
                fine &= (
                    same
                    and figures[: len(figures) // 2] == figures[len(figures) // 2 :]
                    and not left_over
                )
                if not fine:
                    notes.append(
                        f'{name}: same weights {same}, figures {figures}, left over '
                        f'{left_over}\n{text[-800:]}'
                    )
                for phase in kills:
                    by_phase[phase][1] += 1
                    by_phase[phase][0] += fine
                survived = survived + fine * len(kills)
                tried = tried + len(kills)
                print(
                    f'{name:<20} killed while: {", ".join(kills)}; in the end '
                    f'{"the same" if fine else "NOT THE SAME"}',
                    flush=True,
                )
                while notes:
                    print('note:', notes.pop(), flush=True)
    print('; '.join(f'{phase} {good} / {n}' for phase, (good, n) in by_phase.items()))
    print(
        f'faults survived / tried: {survived} / {tried}; all processes had ended at most '
        f'{slowest:.1f} s after a kill; '
        f'{time.time() - started:.0f} s, torch {torch.__version__}'
    )
    if args.json:
        Path(args.json).write_text(
            json.dumps(dict(survived=survived, tried=tried, slowest=slowest, phases=by_phase))
        )
    return int(survived < tried or not tried)


if __name__ == '__main__':
    raise SystemExit(child(sys.argv[2:]) if sys.argv[1:2] == ['--child'] else main())
