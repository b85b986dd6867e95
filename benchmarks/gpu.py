"""Measure BYOL on a GPU: ResNet-50 at 224 px, and minutes to an accuracy on CIFAR-10.

    pip install -e '.[bench]'
    python benchmarks/gpu.py step [--batches 512 1024] [--images data/imagenet/train] [--json FILE]
    python benchmarks/gpu.py profile [--batches 512]
    python benchmarks/gpu.py cifar [--targets 85 90] [--cfg-options epochs=200 data.train.root=...]

step: images/s in bf16

- of our step, eager, compiled and with CUDA graphs, from views in the GPU's memory;
- of our step fed by our input path from JPEG bytes;
- of lightly's step on the same views;

and the share of the device's bf16 peak that each step reaches. The peak is the best speed of large
matrix products; torch counts the operations of the step.

profile: the ten costliest kernels of our step.

cifar: trains configs/byol/r18_cifar10.py with the images on the device, bf16 and compile=True until
the k-NN accuracy on held-out images has reached each target.

--tiny shrinks everything to check on a CPU that the script runs; its figures mean nothing.
"""

import copy
import json
import tempfile
import time
from pathlib import Path

import input_path
import torch
from common import alternate, arguments, jpegs, machine, rows_of, table, write
from mmengine.hooks import Hook
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import ssl_zoo.methods  # noqa: F401
from ssl_zoo.build import build_method
from ssl_zoo.config.loading import load_config
from ssl_zoo.data.loader import default_workers, train_loader
from ssl_zoo.data.view_dataset import ViewDataset
from ssl_zoo.engine.compile import compile_backbones
from ssl_zoo.engine.optim_wrapper import ZooOptimWrapper, build_optimizer
from ssl_zoo.engine.plan import Plan
from ssl_zoo.engine.trainer import build_trainer

ROOT = Path(__file__).resolve().parent.parent
DEVICE = torch.device('cuda' if torch.cuda.is_available() else 'cpu')


def wait() -> None:
    if DEVICE.type == 'cuda':
        torch.cuda.synchronize()


class Ours:
    """The training loop's step of configs/byol/r50_imagenet.py, on batches of its loader."""

    def __init__(self, batch: int, compiled: bool | str, tiny: bool):
        small = (
            ['method.backbone.name=resnet18', 'method.backbone.width=0.125', 'method.hidden_dim=64']
            if tiny
            else []
        )
        self.settings = load_config(
            str(ROOT / 'configs/byol/r50_imagenet.py'),
            [f'batch_size={batch}', f'compile={compiled}', *small],
        )
        self.settings.seed = 0
        self.method = build_method(self.settings).to(DEVICE).train()
        if compiled:
            compile_backbones(self.method, DEVICE, compiled)
        plan = Plan.of(self.settings, 1_281_167)
        self.wrapper = ZooOptimWrapper(
            build_optimizer(self.settings, plan, self.method), self.method, self.settings, 1
        )
        for group in self.wrapper.optimizer.param_groups:
            group['lr'] = 0.1
        self.method.progress = 0.5

    def __call__(self, batch: dict) -> torch.Tensor:
        torch.compiler.cudagraph_mark_step_begin()
        loss = self.method.train_step(batch, optim_wrapper=self.wrapper)['loss']
        self.method.after_step()
        return loss


class There(nn.Module):
    """Replaces the data preprocessor: returns ready views in the step's memory format."""

    def __init__(self, batch: int):
        super().__init__()
        self.views = [
            torch.randn(batch, 3, 224, 224, device=DEVICE).contiguous(
                memory_format=torch.channels_last
            )
            for _ in range(2)
        ]

    def forward(self, data, training=True):
        return dict(views=self.views, index=None)


class Lightly:
    """The step of lightly's BYOL example with ResNet-50, under bf16 autocast, on the same views."""

    def __init__(self, views: list[torch.Tensor], tiny: bool):
        from lightly.loss import NegativeCosineSimilarity
        from lightly.models.modules import BYOLPredictionHead, BYOLProjectionHead
        from lightly.models.utils import deactivate_requires_grad, update_momentum
        from torchvision.models import resnet18, resnet50

        resnet, width = (resnet18(), 512) if tiny else (resnet50(), 2048)
        self.views = [view.contiguous() for view in views]
        self.update = update_momentum
        self.criterion = NegativeCosineSimilarity()
        self.backbone = nn.Sequential(*list(resnet.children())[:-1]).to(DEVICE)
        self.head = BYOLProjectionHead(width, 4096, 256).to(DEVICE)
        self.predict = BYOLPredictionHead(256, 4096, 256).to(DEVICE)
        self.followed = copy.deepcopy(self.backbone), copy.deepcopy(self.head)
        for network in self.followed:
            deactivate_requires_grad(network)
        self.optimizer = torch.optim.SGD(
            [p for n in (self.backbone, self.head, self.predict) for p in n.parameters()], lr=0.06
        )

    def __call__(self) -> None:
        self.update(self.backbone, self.followed[0], m=0.99)
        self.update(self.head, self.followed[1], m=0.99)
        with torch.autocast(DEVICE.type, torch.bfloat16):
            p = [self.predict(self.head(self.backbone(x).flatten(start_dim=1))) for x in self.views]
            z = [
                self.followed[1](self.followed[0](x).flatten(start_dim=1)).detach()
                for x in self.views
            ]
            loss = 0.5 * (self.criterion(p[0], z[1]) + self.criterion(p[1], z[0]))
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


def peak(tiny: bool) -> float:
    """Return the highest measured bf16 operations/s, for matrix products of 8192 x 8192."""
    n = 256 if tiny else 8192
    best = 0.0
    a, b = (torch.randn(n, n, device=DEVICE, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(10):
        wait()
        started = time.perf_counter()
        for _ in range(10):
            a @ b
        wait()
        best = max(best, 10 * 2 * n**3 / (time.perf_counter() - started))
    return best


def steps(args) -> list[dict]:
    done = []
    most = peak(args.tiny)
    for batch in args.batches:
        there = There(batch)
        kinds = {}
        for name, compiled in (
            ('ssl_zoo', False),
            ('ssl_zoo, compiled', True),
            ('ssl_zoo, CUDA graphs', 'reduce-overhead'),
        ):
            ours = Ours(batch, compiled, args.tiny)
            ours.method.data_preprocessor = there
            kinds[name] = lambda ours=ours: ours({})
        with FlopCounterMode(display=False) as counter:
            kinds['ssl_zoo']()
        rows = rows_of(
            alternate({'lightly': Lightly(there.views, args.tiny)} | kinds, args.rounds, warm_up=3),
            batch,
            'lightly',
        )
        del kinds
        for row in rows.values():
            row['of peak'] = row['per_second'] / batch * counter.get_total_flops() / most
        rows['ssl_zoo, compiled, from JPEGs'] = dict(
            per_second=from_jpegs(batch, args), ratio=float('nan')
        )
        print(
            f'batch {batch}: {counter.get_total_flops() / 1e12:.2f} T operations per step, peak '
            f'{most / 1e12:.0f} T/s'
        )
        table(rows, 'images', 'lightly')
        print(
            '  of peak: '
            + ', '.join(
                f'{name} {row["of peak"]:.0%}' for name, row in rows.items() if 'of peak' in row
            ),
            flush=True,
        )
        done.append(dict(batch=batch, rows=rows, peak=most, operations=counter.get_total_flops()))
    return done


def from_jpegs(batch: int, args) -> float:
    """Return images/s of the compiled step fed by the loader."""
    ours = Ours(batch, True, args.tiny)
    files = jpegs(args.images, 20 if args.tiny else 1000)
    batches = 3 if args.tiny else 30
    dataset = ViewDataset(input_path.Bytes(files), ours.settings.build_views(), 0)
    loader = iter(train_loader(dataset, batch, default_workers() or 1, stop=batches + 3))
    seconds = []
    for i in range(batches + 3):
        started = time.perf_counter()
        ours(next(loader))
        wait()
        if i >= 3:
            seconds.append(time.perf_counter() - started)
    return batch * len(seconds) / sum(seconds)


def profile(args) -> list[dict]:
    ours = Ours(args.batches[0], True, args.tiny)
    ours.method.data_preprocessor = There(args.batches[0])
    for _ in range(3):
        ours({})
    wait()
    with torch.profiler.profile() as profiler:
        ours({})
        wait()
    cuda = DEVICE.type == 'cuda'
    events = sorted(
        profiler.key_averages(),
        key=lambda e: -(e.self_device_time_total if cuda else e.self_cpu_time_total),
    )[:10]
    rows = [
        dict(
            kernel=e.key,
            milliseconds=(e.self_device_time_total if cuda else e.self_cpu_time_total) / 1e3,
            calls=e.count,
        )
        for e in events
    ]
    for row in rows:
        print(f'  {row["milliseconds"]:9.2f} ms{row["calls"]:6d} x  {row["kernel"][:90]}')
    return rows


class _Reached(Exception):
    """The last target."""


class _Clock(Hook):
    """Notes when the online k-NN evaluation reaches each target."""

    priority = 'LOWEST'

    def __init__(self, targets: list[float], path: Path):
        self.targets = sorted(targets)
        self.path = path
        self.reached = {}
        self.started = time.perf_counter()

    def after_optimizer_step(self, runner):
        if not self.path.exists():
            return
        seen = [
            json.loads(line) for line in self.path.read_text().splitlines() if 'val/knn' in line
        ]
        values = [row['val/knn'] for row in seen]
        for target in self.targets:
            if values and max(values) >= target and target not in self.reached:
                self.reached[target] = dict(
                    minutes=(time.perf_counter() - self.started) / 60,
                    epoch=runner.plan.epoch(runner.step),
                )
                print(
                    f'{target:g} % k-NN after {self.reached[target]["minutes"]:.1f} minutes, epoch '
                    f'{self.reached[target]["epoch"]:.0f}',
                    flush=True,
                )
        if len(self.reached) == len(self.targets):
            raise _Reached


def cifar(args) -> dict:
    options = ['compile=True', 'workers=0', 'online_eval.every=2', *args.cfg_options]
    with tempfile.TemporaryDirectory() as folder:
        runner = build_trainer(
            load_config(str(ROOT / 'configs/byol/r18_cifar10.py'), options), Path(folder, 'run')
        )
        clock = _Clock(args.targets, Path(folder, 'run', 'log.jsonl'))
        runner.register_hook(clock)
        try:
            runner.fit()
        except _Reached:
            pass
    return clock.reached


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument('what', choices=['step', 'profile', 'cifar'])
    parser.add_argument('--batches', type=int, nargs='+', default=[512, 1024])
    parser.add_argument('--images', help='a folder of JPEG files; without it, made here from noise')
    parser.add_argument('--targets', type=float, nargs='+', default=[85, 90])
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action='extend',
        default=[],
        help='changes to the config of the CIFAR run',
    )
    parser.add_argument('--tiny', action='store_true', help='small enough for a CPU')
    args = parser.parse_args()
    if DEVICE.type == 'cpu' and not args.tiny:
        raise SystemExit('there is no GPU here; --tiny shows on a CPU that the script runs')
    print(f'{machine()["gpu"] or machine()["cpu"]}, torch {torch.__version__}')
    figures = dict(step=steps, profile=profile, cifar=cifar)[args.what](args)
    write(args.json, command=f'gpu {args.what}', tiny=args.tiny, figures=figures)


if __name__ == '__main__':
    main()
