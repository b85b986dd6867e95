"""Measure the memory of a training step and of lightly's, and of evaluation by number of images.

    pip install -e '.[bench]'
    python benchmarks/memory.py [--method BYOL] [--batch 256] [--json FILE]
    python benchmarks/memory.py --tools 20000 200000     # needs the images of data/cifar10/train

A step: CIFAR ResNet-18, float32, one process for each kind of step. The figure is the growth of the
process's peak memory over three steps after a warm-up step; on a GPU, torch's peak allocation.

Tools: extract_features and k-NN on a list of the given number of lines, which repeats a few
thousand images. The figure is the peak of the anonymous memory of all the tool's processes. Pages
of the features' file belong to the page cache, which the system can drop at any time.
"""

import ctypes
import gc
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import torch
from common import arguments, machine, write

ROOT = Path(__file__).resolve().parent.parent
KINDS = ('lightly', 'ssl_zoo', 'ssl_zoo, compiled', 'ssl_zoo, recompute')


def one(kind: str, method: str, batch: int) -> float:
    """Return the memory that three steps take, in MiB."""
    import step

    from ssl_zoo.engine.recompute import recompute_activations

    views = step.views_of(batch)
    run = (
        step.Lightly(method, views, 'float32')
        if kind == 'lightly'
        else step.Ours(method, views, 'float32', kind.endswith('compiled'))
    )
    if kind.endswith('recompute'):
        recompute_activations(run.method.backbone)
    run()  # allocates, tunes, compiles
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        for _ in range(3):
            run()
        return torch.cuda.max_memory_allocated() / 2**20
    ctypes.CDLL(None).malloc_trim(0)
    Path('/proc/self/clear_refs').write_text('5')  # resets the peak
    before = _status('VmRSS')
    for _ in range(3):
        run()
    return _status('VmHWM') - before


def _status(key: str, pid: int | str = 'self') -> float:
    """MiB."""
    lines = Path(f'/proc/{pid}/status').read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key + ':')) / 2**10


def steps(method: str, batch: int, kinds=KINDS) -> dict[str, float]:
    figures = {}
    for kind in kinds:
        done = subprocess.run(
            [sys.executable, __file__, '--one', kind, '--method', method, '--batch', str(batch)],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise SystemExit(done.stderr[-2000:])
        figures[kind] = json.loads(done.stdout.splitlines()[-1])
    return figures


def watched(*command: str) -> tuple[float, float]:
    """Return the peak anonymous memory of a process and its children in MiB, and its seconds."""
    started = time.perf_counter()
    most = 0.0
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    printed = []
    reader = threading.Thread(target=lambda: printed.append(process.stdout.read()))
    reader.start()
    while process.poll() is None:
        total = 0.0
        queue = [process.pid]
        while queue:
            pid = queue.pop()
            try:
                total += _status('RssAnon', pid)
                queue += map(int, Path(f'/proc/{pid}/task/{pid}/children').read_text().split())
            except (OSError, StopIteration):  # the process has just ended
                pass
        most = max(most, total)
        time.sleep(0.05)
    reader.join()
    if process.returncode:
        raise SystemExit(printed[0][-2000:])
    return most, time.perf_counter() - started


def tools(counts: list[int]) -> dict[int, dict[str, float]]:
    """Return the peak memory and seconds of k-NN evaluation, which stores its features first."""
    folder = ROOT / 'data/cifar10/train'
    images = sorted(folder.rglob('*.jpg')) or sorted(folder.rglob('*.png'))
    if not images:
        raise SystemExit('no images in data/cifar10/train')
    images = images[::10]
    figures = {}
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        checkpoint = briefly_trained(home / 'run')
        write_list(home / 'test.txt', images, 2000)
        for n in counts:
            write_list(home / 'train.txt', images, n)
            sources = [
                f"data.{name}={{'type': 'FileList', 'path': '{home}/{name}.txt'}}"
                for name in ('train', 'test')
            ]
            options = ['--work-dir', f'{home}/knn{n}', '--cfg-options', *sources, 'data.val=None']
            mib, seconds = watched('tools/knn.py', checkpoint, *options)
            figures[n] = dict(mib=mib, seconds=seconds)
    return figures


def briefly_trained(work_dir: Path) -> str:
    """Train BYOL on the digits for a tenth of an epoch; return the path of the checkpoint."""
    options = ['epochs=0.1', 'warmup_epochs=0', 'online_eval.every=0']
    command = ['tools/train.py', 'configs/byol/digits.py', '--work-dir', str(work_dir)]
    subprocess.run(
        [sys.executable, *command, '--cfg-options', *options],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    return str(next((work_dir / 'checkpoints').glob('*.pth')))


def write_list(path: Path, images: list[Path], n: int) -> None:
    """Write ``n`` lines of image and class; images repeat in a scattered order."""
    scattered = [images[(i * 7919) % len(images)] for i in range(n)]
    path.write_text(''.join(f'{image}\t{image.parent.name}\n' for image in scattered))


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument('--method', default='BYOL')
    parser.add_argument('--batch', type=int, default=256)
    parser.add_argument('--one', choices=KINDS, help='the figure of one kind, in this process')
    parser.add_argument(
        '--tools', type=int, nargs='+', metavar='N', help='measure evaluation with N images'
    )
    args = parser.parse_args()
    if args.one:
        print(json.dumps(one(args.one, args.method, args.batch)))
        return
    if args.tools:
        figures = tools(args.tools)
        for n, row in figures.items():
            print(
                f'  k-NN against {n:>9,} images{row["mib"]:10.0f} MiB at most{row["seconds"]:8.0f} '
                's'
            )
        write(args.json, command='memory --tools', figures=figures)
        return
    figures = steps(args.method, args.batch)
    print(
        f'{args.method}, CIFAR ResNet-18, batch {args.batch}, float32, '
        f'{machine()["gpu"] or machine()["cpu"]}, torch {torch.__version__}'
    )
    for kind, value in figures.items():
        print(f'  {kind:<26}{value:8.0f} MiB{value / figures["lightly"]:8.2f} x lightly')
    write(args.json, command='memory', mib=figures)


if __name__ == '__main__':
    main()
