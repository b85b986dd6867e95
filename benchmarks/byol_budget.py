"""Trials of BYOL and SimCLR in a short run: what keeps BYOL behind?

    python benchmarks/byol_budget.py --out work_dirs/byol_budget --data data/cifar10/train --jobs 2

--data is CIFAR-10 as image folders. A trial trains 5 epochs (390 steps of 128 images) on 10,000
photographs, on the small network of configs/studies/cifar10.py, with views of 16 pixels to be
cheap. Its figure is the k-NN accuracy on
5,000 other training images (k = 20, T = 0.07); test images are not read. A finished trial is not
repeated, and an interrupted one continues from its checkpoint. GROUPS names the trials to run;
without it all are run. OUT/trials.json holds the figures, and the last lines are the tables.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from common import machine

from ssl_zoo.evaluation.results import rows_of

ROOT = Path(__file__).parents[1]
VARIANTS = Path(__file__).with_name('byol_budget_variants.py')
_view = dict(
    size=16, crop=(0.2, 1.0), flip_p=0.5, jitter=(0.4, 0.4, 0.2, 0.1), jitter_p=0.8, gray_p=0.2
)
COMMON = [
    f'views={[_view, _view]}',
    'epochs=5',
    'batch_size=128',
    'warmup_epochs=0.5',
    'method.backbone.width=0.25',
    'method.backbone.layers=(1, 1, 1, 1)',
    'data.mean=(0.4914, 0.4822, 0.4465)',
    'data.std=(0.2470, 0.2435, 0.2616)',
    'data.val=5000',
    'data.train_on_val=False',
    'data.test=None',
    'workers=0',
    'precision=float32',
    'online_eval.every=5',
    'checkpoint.keep=1',
]
BYOL = ('byol/r18_cifar10_20ep.py', ['method.hidden_dim=1024'])
SIMCLR = ('simclr/r18_cifar10.py', ['weight_decay=1e-6'])
# group -> {label: (config, options)}
TRIALS: dict[str, dict[str, tuple]] = {}


def group(name: str, base: tuple, **labels: list[str]) -> None:
    config, options = base
    TRIALS.setdefault(name, {}).update(
        {label: (config, [*options, *more]) for label, more in labels.items()}
    )


def lrs(*values: float) -> dict[str, list[str]]:
    return {f'lr {value:g}': [f'base_lr={value}'] for value in values}


for _decay in (0.6, 0.8, 0.97):
    group(
        f'BYOL, decay {_decay:g}',
        (BYOL[0], [*BYOL[1], f'method.base_ema={_decay}']),
        **lrs(1, 2.5, 6),
    )
for _temperature in (0.1, 0.2, 0.5):
    group(
        f'SimCLR, temperature {_temperature:g}',
        (SIMCLR[0], [*SIMCLR[1], f'method.temperature={_temperature}']),
        **lrs(1, 2.5, 6),
    )


def train(out: Path, data: Path, name: str, label: str, seed: int) -> dict:
    """Do one trial, or read the figure of a trial that is done."""
    config, options = TRIALS[name][label]
    folder = out / name.replace(', ', '-').replace(' ', '_') / f'{label.replace(" ", "_")}-{seed}'
    source = dict(type='ImageFolder', root=str(data.absolute()), limit=15000)
    options = [*COMMON, f'data.train={source}', f'imports={[str(VARIANTS)]}', *options]
    figure = knn_of(folder)
    if figure is None:
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, str(ROOT / 'tools/train.py'), str(ROOT / 'configs' / config)]
        command += ['--work-dir', str(folder), '--resume', 'auto', '--seed', str(seed)]
        command += ['--cfg-options', *options]
        environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
        with open(folder / 'console.log', 'a') as log:
            subprocess.run(command, stdout=log, stderr=log, env=environment, check=False)
        figure = knn_of(folder)
    return dict(group=name, label=label, seed=seed, knn=figure, config=config, options=options)


def knn_of(folder: Path) -> float | None:
    """Return the k-NN accuracy at the end of a trial; None if it has not ended or diverged."""
    rows = [row for row in rows_of(folder / 'results.jsonl') if row.get('metric') == 'knn_top1']
    trained = [row['value'] for row in rows if row.get('weights') == 'trained']
    return trained[-1] if trained else None


def print_tables(trials: list[dict]) -> None:
    for name in TRIALS:
        print(f'\n{name}')
        for label in TRIALS[name]:
            own = [t for t in trials if (t['group'], t['label']) == (name, label)]
            figures = [t['knn'] for t in own if t['knn'] is not None]
            if figures:
                mean = statistics.mean(figures)
                seeds = ', '.join(f'{figure:.2f}' for figure in figures)
                print(f'  {label:<24} {mean:6.2f}   ({seeds})')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('groups', nargs='*', help='trials to run: words in names of groups')
    parser.add_argument('--out', type=Path, required=True, help='folder of the trials')
    parser.add_argument('--data', type=Path, required=True, help='training images in class folders')
    parser.add_argument('--seeds', type=int, nargs='+', default=[1000])
    parser.add_argument('--jobs', type=int, default=1, help='trials at a time')
    arguments = parser.parse_args()
    chosen = [
        (name, label, seed)
        for name in TRIALS
        if not arguments.groups or any(word in name for word in arguments.groups)
        for label in TRIALS[name]
        for seed in arguments.seeds
    ]
    path = arguments.out / 'trials.json'
    done: dict[str, dict] = {}
    lock = threading.Lock()
    if path.exists():
        done = {key_of(trial): trial for trial in json.loads(path.read_text())['trials']}

    def work(task: tuple[str, str, int]) -> None:
        trial = train(arguments.out, arguments.data, *task)
        with lock:
            done[key_of(trial)] = trial
            content = dict(machine=machine(), trials=list(done.values()))
            path.write_text(json.dumps(content, indent=1))
            print(f'{len(done)} done: {key_of(trial)}: {trial["knn"]}', flush=True)

    with ThreadPoolExecutor(arguments.jobs) as pool:
        list(pool.map(work, chosen))
    print_tables(list(done.values()))


def key_of(trial: dict) -> str:
    return f'{trial["group"]} | {trial["label"]} | {trial["seed"]}'


if __name__ == '__main__':
    main()
