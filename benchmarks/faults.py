"""Kill runs at random moments and resume them: the final weights must not change.

    python benchmarks/faults.py                    # 30 kills; --kills 6 is quick, --json FILE

There are six runs: BYOL with two loader workers, MoCo in bf16 with its queue, and BYOL on two
processes, each twice. A run trains 20 epochs on 140 digits, with a checkpoint after every epoch and
k-NN and a linear probe after every second epoch. Each run is killed five times with SIGKILL: in
turn during a step, while it writes a checkpoint, and during an evaluation, after a random delay. Of
two processes one is killed, and torchrun ends the other.

A run survives a kill if it resumes from the newest complete checkpoint and ends with the weights,
averages, queue and optimizer state of an undisturbed run, bit for bit. After a kill, the remaining
processes must end within 60 seconds. Files of the user lie in the folder of checkpoints, under
names like those of checkpoints: they must not be read, changed or removed.
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
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
PHASES = ('step', 'saving', 'evaluation')
# Range of the number of entries into a phase before the kill, so that each start makes progress.
ENTRIES = dict(step=(8, 25), saving=(1, 3), evaluation=(1, 2))
# Maximum delay of a kill, in seconds: a step takes about 20 ms, writing a checkpoint 10 ms, an
# evaluation 100 ms.
SECONDS = dict(step=0.02, saving=0.012, evaluation=0.15)
PHASE_SECONDS = 1800  # a run gets to a phase within seconds on a machine that does nothing else
CHECKPOINT = re.compile(r'step_\d{8}\.pth')
# Names in the folder of checkpoints that are the user's, and not those of checkpoints.
USER_FILES = (
    'step_00000007_backup.pth',
    'step_00000007 (copy).pth',
    'step_best.pth',
    'step_00000007.pth.unreadable',
    'step_0000000007.pth',
    'notes.txt',
)
LIMIT = 60  # seconds that processes may take to end after a kill
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
    """Train as tools/train.py does, and write the current '<process> <phase>' to a file."""
    from ssl_zoo.cli.train import main as train
    from ssl_zoo.engine.checkpoint_writer import CheckpointWriter
    from ssl_zoo.engine.hooks.online_evaluation import OnlineEvaluationHook
    from ssl_zoo.engine.trainer import Trainer

    torch.set_num_threads(1)
    path = Path(f'{os.environ["PHASE_FILE"]}.{os.environ.get("RANK", 0)}')

    def announce(cls: type, name: str, phase: str) -> None:
        """Wrap a method: write the phase before the call, and 'between' after the call."""
        original = getattr(cls, name)

        def announced(*args, **kwargs):
            path.write_text(f'{os.getpid()} {phase}')
            try:
                return original(*args, **kwargs)
            finally:
                path.write_text(f'{os.getpid()} between')

        setattr(cls, name, announced)

    announce(Trainer, 'one_pass', 'step')
    announce(CheckpointWriter, 'save', 'saving')
    announce(OnlineEvaluationHook, 'evaluate', 'evaluation')
    announce(OnlineEvaluationHook, 'report', 'evaluation')
    return train(arguments)


class Leg:
    """One start of a run, which ends by itself or is killed.

    Args:
        folder: holds config.py; the log and the phases are written there.
        processes: 1, or 2 started by torchrun.
        name: name of the run's work directory below the folder.
    """

    def __init__(self, folder: Path, processes: int, name: str):
        self.phase = folder / 'phase'
        self.work_dir = folder / name
        for left in folder.glob('phase.*'):
            left.unlink()
        launcher = []
        if processes == 2:
            launcher = ['-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2']
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
            phase: the phase in which the process is killed.
            entries: number of times that the process enters the phase before the kill.
            delay: seconds from entering the phase to the kill.
            victim: the rank of the process.

        Returns:
            The step of the newest complete checkpoint and the seconds until all processes had
            ended; None if the run ended before the kill.
        """
        path = Path(f'{self.phase}.{victim}')
        last = ''
        entered = 0
        deadline = time.time() + PHASE_SECONDS
        while self.process.poll() is None:
            if time.time() > deadline:
                self.process.kill()  # else it would hold the lock of its work directory
                raise TimeoutError(f'the run did not get to {phase} within {PHASE_SECONDS} s')
            try:
                pid, current = path.read_text().split()
            except (OSError, ValueError):  # not there yet, or being written
                continue
            if current == phase != last:
                entered += 1
            last = current
            if entered >= entries:
                time.sleep(delay)
                os.kill(int(pid), signal.SIGKILL)
                killed = time.time()
                self.process.wait(120)
                return newest(self.work_dir), time.time() - killed
            time.sleep(0.0005)
        return None

    def finish(self) -> str:
        """Wait for the end of the process; return its log."""
        self.process.wait(600)
        return self.read_log()

    def read_log(self) -> str:
        """Return the text that this start has written to the log of the run."""
        self.log.seek(self.before)
        return self.log.read()


def checkpoints(work_dir: Path) -> list[Path]:
    """Return the complete checkpoints of a run, the oldest first."""
    paths = sorted((work_dir / 'checkpoints').glob('step_*.pth'))
    return [path for path in paths if CHECKPOINT.fullmatch(path.name)]


def newest(work_dir: Path) -> int:
    """Return the step of the newest complete checkpoint, 0 if there is none."""
    return max((int(path.stem.split('_')[1]) for path in checkpoints(work_dir)), default=0)


def plant_user_files(work_dir: Path) -> None:
    """Write USER_FILES into the folder of checkpoints; each holds its name."""
    for name in USER_FILES:
        (work_dir / 'checkpoints' / name).write_text(name)


def changed_user_files(work_dir: Path) -> list[str]:
    """Return the names in USER_FILES whose files are missing or have changed."""
    paths = [work_dir / 'checkpoints' / name for name in USER_FILES]
    return [path.name for path in paths if not path.is_file() or path.read_text() != path.name]


def final_state(work_dir: Path) -> dict:
    """Return the tensors of method and optimizer in the newest checkpoint, and its step."""
    from ssl_zoo.checkpoint import read_checkpoint

    content = read_checkpoint(checkpoints(work_dir)[-1])
    state = dict(content['method'], step=torch.tensor(content['step']))
    for i, values in content['optimizer']['state'].items():
        state.update({f'{i} {key}': value for key, value in values.items()})
    return state


@dataclass
class Count:
    """Kills of a campaign.

    Attributes:
        tried: number of kills by phase.
        survived: number of kills, by phase, after which the run ended like the run without faults.
        slowest: longest time until all processes had ended after a kill, in seconds.
    """

    tried: Counter[str] = field(default_factory=Counter)
    survived: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0


class FaultyRun:
    """A run that is killed and resumed several times.

    Args:
        home: folder with its config.
        name: name of the run, for messages.
        number: number of its config in RUNS.
        repetition: number of the repetition of this config, 0 or 1.
        draw: random generator of the moments of the kills.
        count: the count in which the slowest end of processes is noted.

    Attributes:
        kills: the phases in which the run was killed.
        notes: what went wrong, for the terminal.
    """

    def __init__(
        self, home: Path, name: str, number: int, repetition: int, draw: random.Random, count: Count
    ):
        self.home = home
        self.name = name
        self.processes = RUNS[name][0]
        self.first_phase = repetition + number
        self.folder = f'run{repetition}'
        self.draw = draw
        self.count = count
        self.kills: list[str] = []
        self.notes: list[str] = []
        self.step = 0  # step of the newest complete checkpoint at the last kill
        self.has_user_files = False

    def kill(self) -> bool:
        """Start or resume the run and kill it. Return False if the run ended before the kill."""
        phase = PHASES[(len(self.kills) + self.first_phase) % 3]
        leg = Leg(self.home, self.processes, self.folder)
        entries = self.draw.randint(*ENTRIES[phase])
        delay = self.draw.uniform(0, SECONDS[phase])
        end = leg.kill(phase, entries, delay, self.draw.randrange(self.processes))
        log = leg.read_log()
        resumed = re.search(r'resumed at step (\d+)', log)
        if self.step and (not resumed or int(resumed[1]) != self.step):
            self.notes.append(f'the newest checkpoint was of step {self.step}: {log[-800:]}')
        if end is None:
            return False
        self.step, seconds = end
        work_dir = self.home / self.folder
        if not self.kills and (work_dir / 'checkpoints').is_dir():
            plant_user_files(work_dir)
            self.has_user_files = True
        self.kills.append(phase)
        self.count.slowest = max(self.count.slowest, seconds)
        if seconds >= LIMIT:
            self.notes.append(f'the processes ended {seconds:.0f} s after a kill')
        return True

    def finish(self, reference: dict) -> bool:
        """Let the run end; return whether the run survived all kills.

        The run must end like the run without faults, and each resume must start from the newest
        checkpoint.
        """
        log = Leg(self.home, self.processes, self.folder).finish()
        work_dir = self.home / self.folder
        state = final_state(work_dir) if newest(work_dir) else {}
        has_same_state = state.keys() == reference.keys() and all(
            torch.equal(state[key], reference[key]) for key in reference
        )
        has_same_figures = figures(work_dir) == figures(self.home / 'whole')
        temporary = list(work_dir.rglob('*.tmp.*'))
        changed = changed_user_files(work_dir) if self.has_user_files else []
        if changed:
            self.notes.append(f'files of the user were changed or removed: {", ".join(changed)}')
        if not has_same_state or not has_same_figures or temporary:
            self.notes.append(
                f'same weights {has_same_state}, same figures {has_same_figures}, temporary files '
                f'{temporary}\n{log[-800:]}'
            )
        return not self.notes


def figures(work_dir: Path) -> list[float]:
    """Return the values of the results of a run."""
    path = work_dir / 'results.jsonl'
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line)['value'] for line in lines]


def run_without_faults(home: Path, name: str, epochs: int) -> dict:
    """Write the config of a run, train it to the end, and return its final state."""
    processes, method, more = RUNS[name]
    home.mkdir()
    (home / 'config.py').write_text(CONFIG.format(method=method, more=more, epochs=epochs))
    log = Leg(home, processes, 'whole').finish()
    if 'random weights' not in log or newest(home / 'whole') != epochs * 7:
        raise SystemExit(f'{name}: the run without faults failed\n{log[-2000:]}')
    return final_state(home / 'whole')


def run_campaign(folder: Path, kills: int, epochs: int, draw: random.Random) -> Count:
    """Run every config of RUNS twice, with kills."""
    count = Count()
    kills_per_run = max(kills // (2 * len(RUNS)), 1)
    for number, name in enumerate(RUNS):
        home = folder / str(number)
        reference = run_without_faults(home, name, epochs)
        for repetition in range(2):
            remaining = kills - count.tried.total()
            if remaining <= 0:
                break
            run = FaultyRun(home, name, number, repetition, draw, count)
            while len(run.kills) < min(kills_per_run, remaining):
                if not run.kill():
                    run.notes.append(f'the run ended before kill {len(run.kills) + 1}')
                    break
            is_same = run.finish(reference)
            count.tried.update(run.kills)
            if is_same:
                count.survived.update(run.kills)
            end = 'the same' if is_same else 'NOT THE SAME'
            print(f'{name:<20} killed while: {", ".join(run.kills)}; in the end {end}', flush=True)
            for note in run.notes:
                print(f'note: {name}: {note}', flush=True)
    return count


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--kills', type=int, default=30)
    parser.add_argument('--epochs', type=int, default=20)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--json', help='file for the figures')
    args = parser.parse_args()
    started = time.time()
    with tempfile.TemporaryDirectory() as folder:
        count = run_campaign(Path(folder), args.kills, args.epochs, random.Random(args.seed))
    phases = {phase: [count.survived[phase], count.tried[phase]] for phase in PHASES}
    survived = count.survived.total()
    tried = count.tried.total()
    print('; '.join(f'{phase} {good} / {n}' for phase, (good, n) in phases.items()))
    print(
        f'faults survived / tried: {survived} / {tried}; all processes had ended at most '
        f'{count.slowest:.1f} s after a kill; {time.time() - started:.0f} s, '
        f'torch {torch.__version__}'
    )
    if args.json:
        content = dict(survived=survived, tried=tried, slowest=count.slowest, phases=phases)
        Path(args.json).write_text(json.dumps(content))
    return int(survived < tried or not tried)


if __name__ == '__main__':
    raise SystemExit(child(sys.argv[2:]) if sys.argv[1:2] == ['--child'] else main())
