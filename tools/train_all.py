"""Train several configs, one after the other, and print a table of them.

    python tools/train_all.py configs/*/digits*.py --seeds 0 1 2

Each run is tools/train.py in a process of its own, in OUT/<config>/seed_<N>. What is done is not done again; what was stopped goes
on. A run that fails is reported and does not stop the others. The table is also written to OUT/table.md.
"""
import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import mean, pstdev

COLUMNS = ('config', 'method', 'k-NN', 'random weights', '2 labels per class', 'seconds', 'spread', 'RankMe', 'seeds')


def parse(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Train several configs and print a table of them.')
    parser.add_argument('configs', nargs='+', help='config files, such as configs/*/digits*.py')
    parser.add_argument('--seeds', nargs='+', type=int, default=[0], help='seeds of each config; default: 0')
    parser.add_argument('--out', default='work_dirs/all', help='folder of all the runs; default: work_dirs/all')
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='changes to every config')
    return parser.parse_args(argv)


def name_of(config: str) -> str:
    path = Path(config)
    return f'{path.parent.name}/{path.name}'


def result(run: Path) -> dict | None:
    """The figures of a finished run, None if it is not finished."""
    try:
        rows = [json.loads(line) for line in (run / 'results.jsonl').read_text().splitlines()]
        logged = [json.loads(line) for line in (run / 'log.jsonl').read_text().splitlines()]
        value = {(row['metric'], row['weights']): row['value'] for row in rows}
        last = [line for line in logged if 'val/spread' in line][-1]
        return {'method': rows[-1]['config']['method']['type'], 'k-NN': value['knn_top1', 'trained'],
                'random weights': value['knn_top1', 'random weights'], '2 labels per class': value['probe_2_per_class_top1', 'trained'],
                'seconds': rows[-1]['seconds'], 'spread': last['val/spread'], 'RankMe': last['val/rankme']}
    except (FileNotFoundError, IndexError, KeyError):
        return None


def train(config: str, seed: int, run: Path, options: list[str]) -> int:
    """Run tools/train.py, from where it stopped if it did; its output goes to console.log. Returns its exit code."""
    run.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(Path(__file__).with_name('train.py')), config, '--work-dir', str(run), '--seed', str(seed)]
    command += ['--resume'] if any((run / 'checkpoints').glob('step_*.pth')) else []
    command += ['--cfg-options', *options] if options else []
    with open(run / 'console.log', 'a') as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.wait()                                                 # it got Ctrl-C too, and saves
            raise


def table(configs: list[str], seeds: list[int], out: Path) -> str:
    """Markdown: a line for each config with finished runs, best k-NN first; means, and for accuracies deviations over seeds."""
    lines = []
    for config in configs:
        done = [r for seed in seeds if (r := result(folder(out, config, seed)))]
        if done:
            values = {key: [r[key] for r in done] for key in done[0]}
            percent = [f'{mean(values[key]):.2f} %' + (f' ({pstdev(values[key]):.2f})' if len(done) > 1 else '') for key in COLUMNS[2:5]]
            cells = [name_of(config), values['method'][0], *percent, f'{mean(values["seconds"]):.0f}', f'{mean(values["spread"]):.2f}',
                     f'{mean(values["RankMe"]):.0f}', str(len(done))]
            lines.append((-mean(values['k-NN']), '| ' + ' | '.join(cells) + ' |'))
    head = ['| ' + ' | '.join(COLUMNS) + ' |', '|' + '---|' * len(COLUMNS)]
    return '\n'.join(head + [line for _, line in sorted(lines)])


def folder(out: Path, config: str, seed: int) -> Path:
    return out / name_of(config).removesuffix('.py').replace('/', '_') / f'seed_{seed}'


def main(argv=None) -> int:
    args = parse(argv)
    out, failed, spent = Path(args.out), [], []
    missing = [config for config in args.configs if not Path(config).is_file()]
    if missing:
        print(f'error: there is no config at {missing[0]}', file=sys.stderr)
        return 2
    runs = [(config, seed) for seed in args.seeds for config in args.configs]
    try:
        for number, (config, seed) in enumerate(runs, 1):
            run, label = folder(out, config, seed), f'{number}/{len(runs)}  {name_of(config)}  seed {seed}'
            if result(run):
                print(f'{label}: done before', flush=True)
                continue
            started = time.perf_counter()
            code = train(config, seed, run, args.cfg_options)
            spent.append(time.perf_counter() - started)
            figures, left = result(run), mean(spent) * (len(runs) - number)
            if code or not figures:
                failed.append(label)
                last = (run / 'console.log').read_text().strip().splitlines()
                print(f'{label}: failed with exit code {code}: {last[-1] if last else "no output"} (see {run / "console.log"})', flush=True)
            else:
                print(f'{label}: k-NN {figures["k-NN"]:.2f} % (random weights {figures["random weights"]:.2f} %) in {spent[-1]:.0f} s; '
                      f'at most {left / 60:.0f} min left', flush=True)
    except KeyboardInterrupt:
        print('stopped; the same command goes on from here', file=sys.stderr)
        return 130
    text = table(args.configs, args.seeds, out)
    out.mkdir(parents=True, exist_ok=True)
    (out / 'table.md').write_text(text + '\n')
    print(f'\n{text}\n\nmean (deviation over seeds); seconds include the looks on the way; also in {out / "table.md"}')
    if failed:
        print(f'{len(failed)} of {len(runs)} runs failed: {"; ".join(failed)}', file=sys.stderr)
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
