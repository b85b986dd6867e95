"""Train several configs and print a table of them.

    python tools/train_all.py configs/*/digits*.py --seeds 0 1 2
    python tools/train_all.py configs/*/digits*.py --seeds 0 1 2 --jobs 2      # two at a time, each on half of the cores

Each run is tools/train.py in a process of its own, in OUT/<config>/seed_<N>. What is done is not done again; what was stopped goes
on. A run that fails is reported and does not stop the others. The table is also written to OUT/table.md.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import mean, stdev

LEFT_OUT = ('_base_', 'studies')
COLUMNS = (
    'config',
    'method',
    'k-NN',
    'random weights',
    '2 labels per class',
    'seconds',
    'feature_std',
    'RankMe',
    'seeds',
)


def parse(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Train several configs and print a table of them.')
    parser.add_argument(
        'configs',
        nargs='+',
        help='config files, such as configs/*/digits*.py; those in _base_ and studies are left out',
    )
    parser.add_argument(
        '--seeds', nargs='+', type=int, default=[0], help='seeds of each config; default: 0'
    )
    parser.add_argument(
        '--out', default='work_dirs/all', help='folder of all the runs; default: work_dirs/all'
    )
    parser.add_argument(
        '--jobs', type=int, default=1, help='runs at a time, which share the cores; default: 1'
    )
    parser.add_argument(
        '--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='changes to every config'
    )
    return parser.parse_args(argv)


def name_of(config: str) -> str:
    path = Path(config).absolute()
    return f'{path.parent.name}/{path.name}'


def folder(out: Path, config: str, seed: int) -> Path:
    return out / name_of(config).removesuffix('.py').replace('/', '_') / f'seed_{seed}'


def result(run: Path) -> dict | None:
    """The figures of a finished run with its settings under 'config', None if it is not finished."""
    try:
        rows = [json.loads(line) for line in (run / 'results.jsonl').read_text().splitlines()]
        rows = [
            row for row in rows if 'checkpoint_sha256' not in row
        ]  # those are of later evaluations
        logged = [json.loads(line) for line in (run / 'log.jsonl').read_text().splitlines()]
        value = {(row['metric'], row['weights']): row['value'] for row in rows}
        last = next(
            (line for line in reversed(logged) if 'val/feature_std' in line), {}
        )  # none with online_eval.every=0
        return {
            'method': rows[-1]['config']['method']['type'],
            'k-NN': value['knn_top1', 'trained'],
            'random weights': value['knn_top1', 'random weights'],
            '2 labels per class': value['probe_2_per_class_top1', 'trained'],
            'seconds': rows[-1]['seconds'],
            'feature_std': last.get('val/feature_std'),
            'RankMe': last.get('val/rankme'),
            'config': rows[-1]['config'],
        }
    except (
        OSError,
        IndexError,
        KeyError,
        TypeError,
        AttributeError,
        ValueError,
    ):  # none, or damaged
        return None


class Run:
    """One config with one seed: started, waited for, reported."""

    def __init__(
        self, label: str, config: str, seed: int, folder: Path, options: list[str], threads: int
    ):
        self.label, self.config, self.seed, self.folder, self.options, self.threads = (
            label,
            config,
            seed,
            folder,
            options,
            threads,
        )

    def done_before(self) -> bool:
        """Whether its figures are there. Raises ConfigError if they are those of other settings."""
        from ssl_zoo.config.loading import load_config
        from ssl_zoo.errors import ConfigError

        settings = load_config(
            self.config, [*self.options, f'seed={self.seed}']
        )  # a mistake shows before anything runs
        figures = result(self.folder)
        if figures and figures['config'] != json.loads(json.dumps(settings.to_builtin())):
            raise ConfigError(
                f'{self.folder} holds a finished run with other settings; choose another --out, or remove it'
            )
        return figures is not None

    def start(self) -> None:
        """tools/train.py, from where it stopped if it did; its output goes to console.log."""
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [
            sys.executable,
            str(Path(__file__).with_name('train.py')),
            self.config,
            '--work-dir',
            str(self.folder),
            '--seed',
            str(self.seed),
        ]
        command += ['--resume'] if any((self.folder / 'checkpoints').glob('step_*.pth')) else []
        command += ['--cfg-options', *self.options] if self.options else []
        self.began, self.log = time.perf_counter(), open(self.folder / 'console.log', 'a')
        self.process = subprocess.Popen(
            command,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            env={**os.environ, 'OMP_NUM_THREADS': str(self.threads)},
        )

    def finish(self) -> str | None:
        """Wait for it. Returns what went wrong, None if nothing did."""
        code = self.process.wait()
        self.log.close()
        self.seconds = time.perf_counter() - self.began
        if code == 0 and result(self.folder):
            return None
        last = (self.folder / 'console.log').read_text().strip().splitlines()
        return f'exit code {code}: {last[-1] if last else "no output"} (see {self.folder / "console.log"})'


def table(configs: list[str], seeds: list[int], out: Path) -> str:
    """Markdown: a line for each config with finished runs, best k-NN first; means, and for accuracies deviations over seeds."""
    lines = []
    for config in configs:
        done = [r for seed in seeds if (r := result(folder(out, config, seed)))]
        if done:
            values = {key: [r[key] for r in done] for key in done[0]}
            percent = [
                f'{mean(values[key]):.2f} %'
                + (f' ({stdev(values[key]):.2f})' if len(done) > 1 else '')
                for key in COLUMNS[2:5]
            ]
            collapse = [
                '' if None in values[key] else f'{mean(values[key]):.{digits}f}'
                for key, digits in (('feature_std', 2), ('RankMe', 0))
            ]
            cells = [
                name_of(config),
                values['method'][0],
                *percent,
                f'{mean(values["seconds"]):.0f}',
                *collapse,
                str(len(done)),
            ]
            lines.append((-mean(values['k-NN']), '| ' + ' | '.join(cells) + ' |'))
    head = ['| ' + ' | '.join(COLUMNS) + ' |', '|' + '---|' * len(COLUMNS)]
    return '\n'.join(head + [line for _, line in sorted(lines)])


def train_all(runs: list[Run], jobs: int) -> list[str]:
    """Train them, ``jobs`` at a time. Returns the labels of those that failed. Ctrl-C stops all, and each saves."""
    failed, spent, waiting, running = [], [], list(runs), []
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                run = waiting.pop(0)
                try:
                    run.start()
                    running.append(run)
                except OSError as error:  # its folder; the others may have theirs
                    failed.append(run.label)
                    print(f'{run.label}: failed: {error}', flush=True)
            time.sleep(0.2)
            for run in [run for run in running if run.process.poll() is not None]:
                running.remove(run)
                wrong, figures = run.finish(), result(run.folder)
                spent.append(run.seconds)
                if wrong:
                    failed.append(run.label)
                    print(f'{run.label}: failed with {wrong}', flush=True)
                else:
                    left = mean(spent) * (len(waiting) + len(running) / 2) / jobs
                    print(
                        f'{run.label}: k-NN {figures["k-NN"]:.2f} % (random weights {figures["random weights"]:.2f} %) in '
                        f'{run.seconds:.0f} s; about {left / 60:.0f} min left',
                        flush=True,
                    )
    except KeyboardInterrupt:
        for run in running:  # they got Ctrl-C too, and save
            run.finish()
        raise
    return failed


def main(argv=None) -> int:
    args = parse(argv)
    from ssl_zoo.errors import ConfigError

    args.configs = [
        config for config in args.configs if Path(config).absolute().parent.name not in LEFT_OUT
    ]  # a glob takes them along
    out, pairs = Path(args.out), [(config, seed) for seed in args.seeds for config in args.configs]
    names = [name_of(config) for config in args.configs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        print(
            f'error: two configs are called {twice}, and would share a folder; rename one, or run them apart',
            file=sys.stderr,
        )
        return 2
    if not names or len(set(args.seeds)) < len(args.seeds):
        print(
            'error: '
            + (
                f'--seeds has {args.seeds}, one of them twice; give each once'
                if names
                else 'the files in _base_ and studies are no runs of their own; give others, such as configs/*/digits*.py'
            ),
            file=sys.stderr,
        )
        return 2
    if args.jobs < 1:
        print(f'error: --jobs is {args.jobs}, but it must be at least 1', file=sys.stderr)
        return 2
    threads = max((os.cpu_count() or 1) // args.jobs, 1)
    runs, failed = [], []
    for number, (config, seed) in enumerate(pairs, 1):
        label = f'{number}/{len(pairs)}  {name_of(config)}  seed {seed}'
        run = Run(label, config, seed, folder(out, config, seed), args.cfg_options, threads)
        try:
            if run.done_before():
                print(f'{run.label}: done before', flush=True)
            else:
                runs.append(run)
        except ConfigError as error:
            failed.append(run.label)
            print(f'{run.label}: failed: {error}', flush=True)
    try:
        failed += train_all(runs, args.jobs)
    except KeyboardInterrupt:
        print('stopped; the same command goes on from here', file=sys.stderr)
        return 130
    text = table(args.configs, args.seeds, out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / 'table.md').write_text(text + '\n')
    except OSError as error:
        print(
            f'\n{text}\n\nerror: the table could not be written: {error}; choose another --out',
            file=sys.stderr,
        )
        return 2
    print(
        f'\n{text}\n\nmean (sample standard deviation over seeds), on test images, or on val where data.test=None; '
        f'feature std and RankMe of the last look at val; seconds include the looks on the way, {args.jobs} at a time on '
        f'{threads} threads each; also in {out / "table.md"}'
    )
    if failed:
        print(f'{len(failed)} of {len(pairs)} runs failed: {"; ".join(failed)}', file=sys.stderr)
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
