"""Compare a run that was stopped within an epoch and resumed with an undisturbed run.

    python benchmarks/resume.py                          # the matrix; --json FILE writes it as well
    python benchmarks/resume.py --cases BYOL DINO --columns 1 2

Every case trains 14 steps on 140 digits (7 steps per epoch), once undisturbed, and once stopped by
SIGTERM after step 4 and resumed. In the column '1 -> 2' the run is stopped on one process and
resumed on two processes with another number of loader workers. In columns of two processes one
process gets the signal.

Compared are all weights, statistics, averages, queues and centres, the optimizer's state, the
images of every step and their views (SHA-256), and the losses in log.jsonl. 'identical' means equal
in every bit. Another number of processes changes the order of sums and so their rounding: in the
column '1 -> 2' the images and views must be identical, and the table gives the largest relative
difference of a step's loss.
"""

import argparse
import hashlib
import json
import logging
import os
import signal
import tempfile
import time
import warnings
from contextlib import redirect_stdout, suppress
from pathlib import Path

import torch
import torch.multiprocessing as mp
from mmengine.hooks import Hook

from ssl_zoo.checkpoint import read_checkpoint
from ssl_zoo.config.settings import settings_from_dict
from ssl_zoo.distributed import all_gather, rank, world_size
from ssl_zoo.distributed.process_group import process_group
from ssl_zoo.engine.trainer import build_trainer
from ssl_zoo.errors import Stopped

STOP = 4
BACKBONE = dict(name='resnet18', stem='cifar', width=0.125, layers=[1, 1, 1, 1])
VIEW = dict(
    size=20,
    flip_p=0.5,
    jitter=[0.4, 0.4, 0.2, 0.1],
    jitter_p=0.8,
    gray_p=0.2,
    blur_p=0.5,
    solarize_p=0.2,
)
BASE = dict(
    method=dict(type='BYOL', backbone=BACKBONE, hidden_dim=32, proj_dim=16, base_ema=0.9),
    data=dict(train=dict(type='Digits', split='val'), val=40, mean=[0.5] * 3, std=[0.5] * 3),
    views=[VIEW] * 2,
    optimizer=dict(type='LARS', momentum=0.9),
    epochs=2,
    batch_size=20,
    base_lr=1.0,
    weight_decay=1e-6,
    warmup_epochs=0.5,
    workers=0,
    log_every=1,
    online_eval=dict(every=0),
    parallel=dict(timeout=120),
)
SGD = dict(optimizer=dict(type='SGD', momentum=0.9), base_lr=0.1)


def method(**arguments) -> dict:
    return dict(method=dict(arguments, backbone=BACKBONE), **SGD)


CASES = {
    'BYOL': {},
    'workers': dict(workers=2),
    'accumulation': dict(accumulate=2),
    'bf16, channels_last': dict(precision='bf16', channels_last=True),
    'k-NN and linear probe': dict(online_eval=dict(every=0.3, probe=True)),
    'torch.compile': dict(compile=True),
    'images on the device, activations recomputed': dict(
        data=dict(BASE['data'], on_device=True), recompute=True
    ),
    'ViT with drop path, AdamW': dict(
        method=dict(
            type='MoCoV3',
            backbone=dict(
                name='vit_tiny_patch16_224', img_size=20, patch_size=4, depth=2, drop_path_rate=0.5
            ),
            hidden_dim=32,
            proj_dim=16,
        ),
        optimizer=dict(type='AdamW'),
        base_lr=1e-3,
    ),
    'MoCo: queue, shuffled BatchNorm': method(
        type='MoCo', hidden_dim=32, proj_dim=8, queue_size=50, bn_splits=2
    ),
    'DINO: centre, schedules, clipping': dict(
        method(
            type='DINO',
            hidden_dim=32,
            bottleneck_dim=8,
            prototypes=20,
            temperature_warmup_epochs=2,
            warmup_teacher_temperature=0.1,
        ),
        weight_decay_end=0.01,
        clip_grad=1,
    ),
    'SwAV: queues, frozen prototypes': method(
        type='SwAV',
        hidden_dim=32,
        proj_dim=8,
        prototypes=10,
        queue_size=30,
        queue_from_epoch=0.5,
        frozen_epochs=0.8,
    ),
    'W-MSE: random parts': method(type='WMSE', hidden_dim=32, proj_dim=4, whiten_size=10),
    'MYOW: mined from epoch 0.7': dict(
        method(
            type='MYOW',
            hidden_dim=32,
            proj_dim=8,
            mined_hidden=16,
            mined_dim=8,
            from_epoch=0.7,
            full_epoch=1.5,
            k=2,
        ),
        views=[VIEW] * 4,
    ),
    'everything': dict(
        method(type='ReSSL', hidden_dim=32, proj_dim=8, queue_size=50),
        workers=2,
        accumulate=2,
        precision='bf16',
        online_eval=dict(every=0.3, probe=True),
    ),
}
COLUMNS = {
    '1': (1, 1, {}),
    '2': (2, 2, {}),
    '2 sharded': (2, 2, dict(parallel=dict(strategy='fsdp', timeout=120))),
    '1 -> 2': (1, 2, {}),
}  # processes before and after the stop


class Watcher(Hook):
    """Notes the images and views of every step, and asks for a stop."""

    priority = 'LOW'

    def __init__(self, stop: int | None):
        self.stop = stop
        self.seen = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        index = all_gather(data_batch['index'])
        views = [all_gather(view) for view in data_batch['views']]
        parameters = [all_gather(p) for p in data_batch['params']]
        digest = hashlib.sha256(
            b''.join(t.numpy().tobytes() for t in (index, *views, *parameters))
        ).hexdigest()
        self.seen.append((runner.step, digest))

    def after_optimizer_step(self, runner):
        if runner.step == self.stop and rank() == world_size() - 1:
            os.kill(os.getpid(), signal.SIGTERM)


def run(changes: dict, work_dir: Path, stop: int | None = None, resume: bool = False) -> list:
    """Train one leg of a run; return the images and views of each step."""
    runner = build_trainer(settings_from_dict({**BASE, **changes}), work_dir, resume)
    runner.logger.setLevel(logging.CRITICAL)
    watcher = Watcher(stop)
    runner.register_hook(watcher)
    with suppress(Stopped):
        runner.fit()
    return watcher.seen


def work(number: int, folder: str, cases: list[str], column: str, leg: int) -> None:
    """Do one process's part of a column: leg 0 is whole and stopped runs, leg 1 resumed runs."""
    warnings.filterwarnings('ignore')
    torch.set_num_threads(1)
    os.environ.update(RANK=str(number), LOCAL_RANK=str(number))
    first, second, changes = COLUMNS[column]
    processes = (first, second)[leg]
    with process_group(120), open(os.devnull, 'w') as quiet, redirect_stdout(quiet):
        for i, case in enumerate(cases):
            place = Path(folder, f'{column} {i}')
            seen = {}
            changed = {**CASES[case], **changes}
            if leg == 0:
                seen['whole'] = run(changed, place / 'whole')
                seen['stopped'] = run(changed, place / 'stopped', stop=STOP)
            elif first != second:
                seen['resumed'] = run(
                    {**changed, 'workers': 2 - changed.get('workers', 0)},
                    place / 'stopped',
                    resume=True,
                )
            else:
                seen['resumed'] = run(changed, place / 'stopped', resume=True)
            if number == 0:
                (place / f'seen{leg}.json').write_text(json.dumps(dict(seen, processes=processes)))


def spawn(processes: int, *arguments) -> None:
    os.environ.update(
        WORLD_SIZE=str(processes),
        MASTER_ADDR='127.0.0.1',
        MASTER_PORT=str(20000 + os.getpid() % 20000),
    )
    mp.spawn(work, args=arguments, nprocs=processes)


def state(place: Path) -> dict:
    content = read_checkpoint(max((place / 'checkpoints').glob('*.pth')))
    flat = dict(content['method'])
    for i, values in content['optimizer']['state'].items():
        flat.update(
            {f'optimizer {i} {key}': torch.as_tensor(value) for key, value in values.items()}
        )
    return flat


def losses(place: Path) -> dict:
    rows = map(json.loads, (place / 'log.jsonl').read_text().splitlines())
    return {
        row['step']: (row['train/loss'], row.get('val/knn'), row.get('val/probe'))
        for row in rows
        if 'train/loss' in row
    }


def verdict(place: Path, column: str) -> str:
    """Return 'identical', or a description of the difference."""
    seen = {
        **json.loads((place / 'seen0.json').read_text()),
        **json.loads((place / 'seen1.json').read_text()),
    }
    if seen['stopped'] + seen['resumed'] != seen['whole'] or not 0 < len(seen['stopped']) < len(
        seen['whole']
    ):
        return 'other images'
    a = state(place / 'whole')
    b = state(place / 'stopped')
    if a.keys() != b.keys():
        return 'other state'
    same = all(torch.equal(a[key], b[key]) for key in a) and losses(place / 'whole') == losses(
        place / 'stopped'
    )
    if column != '1 -> 2' or same:
        return 'identical' if same else 'DIFFERS'
    one = losses(place / 'whole')
    other = losses(place / 'stopped')
    return f'same images ({max(abs(one[k][0] / other[k][0] - 1) for k in one):.0e})'


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--cases', nargs='+', default=list(CASES), choices=list(CASES), metavar='CASE'
    )
    parser.add_argument('--columns', nargs='+', default=list(COLUMNS), choices=list(COLUMNS))
    parser.add_argument('--json', help='file for the matrix')
    args = parser.parse_args()
    warnings.filterwarnings('ignore')
    started = time.time()
    matrix = {case: {} for case in args.cases}
    with tempfile.TemporaryDirectory() as folder:
        for column in args.columns:
            cases = [
                case for case in args.cases if column in ('1', '2') or case != 'torch.compile'
            ]  # which needs no repetition
            for leg in (0, 1):
                spawn(COLUMNS[column][leg], folder, cases, column, leg)
            for i, case in enumerate(cases):
                matrix[case][column] = verdict(Path(folder, f'{column} {i}'), column)
    print(
        'stopped in the middle of an epoch and resumed, against a run that was not; columns: '
        'processes'
    )
    print(f'{"":<36}' + ''.join(f'{column:<22}' for column in args.columns))
    for case, row in matrix.items():
        print(f'{case:<36}' + ''.join(f'{row.get(column, "-"):<22}' for column in args.columns))
    print(f'torch {torch.__version__}, {time.time() - started:.0f} s')
    if args.json:
        Path(args.json).write_text(json.dumps(matrix))
    return int(
        any(
            'other' in text or 'DIFFERS' in text for row in matrix.values() for text in row.values()
        )
    )


if __name__ == '__main__':
    raise SystemExit(main())
