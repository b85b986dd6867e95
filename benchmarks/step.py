"""Compare the time of a training step with lightly's step and with the backbone alone.

    pip install -e '.[bench]'
    python benchmarks/step.py [--methods BYOL SimCLR MoCo] [--batches 64 256] [--json FILE] \\
        [--precisions float32 bf16] [--threads 2]
    python benchmarks/step.py --curve        # losses of the compiled step beside the eager one's

CIFAR ResNet-18 at 32 px, views made beforehand, SGD. lightly's step is that of its examples: its
CIFAR ResNet-18, heads, losses and EMA; forward, loss, backward, step; under autocast for bf16. Ours
is the step of the training loop (ZooOptimWrapper, channels_last), eager and with compile=True.

Equal work is checked before the timing: the numbers of parameters agree within 1 %, and the same
number of images passes through the backbones. ``backbone alone`` is the compiled backbone in
channels_last, forward and backward for the trained network and forward for the averaged network,
with nothing else. The share of this speed that our step reaches is printed.
"""

import copy
import statistics
from contextlib import nullcontext

import torch
from common import alternate, arguments, machine, rows_of, table, write
from torch import nn

import ssl_zoo.methods  # noqa: F401
from ssl_zoo.build import build_method
from ssl_zoo.config.settings import Settings, settings_from_dict
from ssl_zoo.engine.compile import compile_backbones
from ssl_zoo.engine.optim_wrapper import ZooOptimWrapper, build_optimizer
from ssl_zoo.engine.plan import Plan

BACKBONE = dict(name='resnet18', stem='cifar')
METHODS = {
    'BYOL': dict(type='BYOL', backbone=BACKBONE, hidden_dim=1024, proj_dim=256, base_ema=0.99),
    'SimCLR': dict(type='SimCLR', backbone=BACKBONE, proj_dim=128, temperature=0.5),
    'MoCo': dict(
        type='MoCo',
        backbone=BACKBONE,
        hidden_dim=512,
        proj_dim=128,
        queue_size=4096,
        temperature=0.1,
    ),
}


def settings_of(method: str, batch: int, precision: str, compiled: bool) -> Settings:
    return settings_from_dict(
        dict(
            method=METHODS[method],
            data=dict(train=dict(type='Digits')),
            views=[dict(size=32)] * 2,
            epochs=1,
            batch_size=batch,
            base_lr=0.06,
            optimizer=dict(type='SGD', momentum=0.0),
            precision=precision,
            channels_last=True,
            compile=compiled,
        )
    )


class Ours:
    """The step of the training loop on ready views."""

    def __init__(
        self, method: str, views: list[torch.Tensor], precision: str, compiled: bool, seed: int = 0
    ):
        settings = settings_of(method, len(views[0]), precision, compiled)
        settings.seed = seed
        device = views[0].device
        self.method = build_method(settings).to(device).train()
        if compiled:
            compile_backbones(self.method, device)
        plan = Plan.of(settings, 10 * len(views[0]))
        self.wrapper = ZooOptimWrapper(
            build_optimizer(settings, plan, self.method), self.method, settings, 1
        )
        for group in self.wrapper.optimizer.param_groups:
            group['lr'] = 0.06
        views = [view.contiguous(memory_format=torch.channels_last) for view in views]

        class There(nn.Module):
            def forward(self, data, training=True):
                return dict(views=views, index=None)

        self.method.data_preprocessor = There()
        self.method.progress = 0.5
        self.losses = []

    def __call__(self) -> None:
        if self.method.training:
            torch.compiler.cudagraph_mark_step_begin()
        self.losses.append(self.method.train_step({}, optim_wrapper=self.wrapper)['loss'].detach())
        self.method.after_step()


class Alone:
    """The forward and backward passes of the backbone, and the forward pass of its average."""

    def __init__(self, method: str, views: list[torch.Tensor], precision: str):
        ours = Ours(method, views, precision, False).method
        self.online = ours.backbone
        self.averaged = copy.deepcopy(ours.backbone).requires_grad_(False)
        self.online.compile()
        self.averaged.compile()
        self.views = [view.contiguous(memory_format=torch.channels_last) for view in views]
        self.trained, self.followed = dict(
            BYOL=(self.views, self.views),
            MoCo=(self.views[:1], self.views[1:]),
            SimCLR=([torch.cat(self.views)], []),
        )[method]
        self.bf16 = precision == 'bf16'

    def __call__(self) -> None:
        with torch.autocast(self.views[0].device.type, torch.bfloat16, enabled=self.bf16):
            outputs = [self.online(view) for view in self.trained]
            with torch.no_grad():
                for view in self.followed:
                    self.averaged(view)
        torch.autograd.backward([out.float().mean() for out in outputs])
        self.online.zero_grad()


class Lightly:
    """The step of lightly's examples, from its own parts."""

    def __init__(self, method: str, views: list[torch.Tensor], precision: str):
        from lightly.loss import NegativeCosineSimilarity, NTXentLoss
        from lightly.models import ResNetGenerator
        from lightly.models.modules import (
            BYOLPredictionHead,
            BYOLProjectionHead,
            MoCoProjectionHead,
            SimCLRProjectionHead,
        )
        from lightly.models.utils import deactivate_requires_grad, update_momentum

        self.update = update_momentum
        self.method = method
        self.views = views
        device = views[0].device
        heads = dict(
            BYOL=lambda: BYOLProjectionHead(512, 1024, 256),
            SimCLR=lambda: SimCLRProjectionHead(512, 512, 128),
            MoCo=lambda: MoCoProjectionHead(512, 512, 128),
        )
        resnet = ResNetGenerator('resnet-18')
        self.model = nn.ModuleDict(
            dict(
                backbone=nn.Sequential(*list(resnet.children())[:-1], nn.AdaptiveAvgPool2d(1)),
                head=heads[method](),
            )
        )
        if method == 'BYOL':
            self.model['predict'] = BYOLPredictionHead(256, 1024, 256)
        if method != 'SimCLR':
            self.model['followed'] = nn.Sequential(
                copy.deepcopy(self.model['backbone']),
                nn.Flatten(),
                copy.deepcopy(self.model['head']),
            )
            deactivate_requires_grad(self.model['followed'])
        self.model.to(device).train()
        self.criterion = dict(
            BYOL=NegativeCosineSimilarity,
            SimCLR=NTXentLoss,
            MoCo=lambda: NTXentLoss(memory_bank_size=(4096, 128)),
        )[method]().to(device)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.06)
        self.autocast = (
            torch.autocast(device.type, torch.bfloat16) if precision == 'bf16' else nullcontext()
        )

    def embed(self, x: torch.Tensor) -> torch.Tensor:
        return self.model['head'](self.model['backbone'](x).flatten(start_dim=1))

    def __call__(self) -> None:
        x0, x1 = self.views
        model = self.model
        if 'followed' in model:
            self.update(model['backbone'], model['followed'][0], m=0.99)
            self.update(model['head'], model['followed'][2], m=0.99)
        with self.autocast:
            if self.method == 'BYOL':
                p0 = model['predict'](self.embed(x0))
                z0 = model['followed'](x0).detach()
                p1 = model['predict'](self.embed(x1))
                z1 = model['followed'](x1).detach()
                loss = 0.5 * (self.criterion(p0, z1) + self.criterion(p1, z0))
            elif self.method == 'SimCLR':
                loss = self.criterion(self.embed(x0), self.embed(x1))
            else:
                loss = self.criterion(self.embed(x0), model['followed'](x1).detach())
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


def views_of(batch: int) -> list[torch.Tensor]:
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(batch, 3, 32, 32, generator=generator).to(device) for _ in range(2)]


def equal_work(ours: Ours, theirs: Lightly) -> tuple[int, int]:
    """Check that both steps do equal work; return the parameters of each, averages included."""
    mine, other = (
        sum(p.numel() for p in model.parameters()) for model in (ours.method, theirs.model)
    )
    if abs(mine - other) > 0.01 * other:
        raise SystemExit(f'{mine:,} parameters against {other:,} of lightly: not the same work')
    seen = [0, 0]
    for i, (step, backbones) in enumerate(
        (
            (ours, [path for path, _ in ours.method.networks.values()]),
            (theirs, ['backbone', 'followed.0'] if 'followed' in theirs.model else ['backbone']),
        )
    ):
        model = step.method if i == 0 else step.model
        hooks = [
            model.get_submodule(path).register_forward_pre_hook(
                lambda _, x, i=i: seen.__setitem__(i, seen[i] + len(x[0]))
            )
            for path in backbones
        ]
        step()
        for hook in hooks:
            hook.remove()
    if seen[0] != seen[1]:
        raise SystemExit(
            f"{seen[0]} images through our backbones against {seen[1]} through lightly's: not the "
            'same work'
        )
    return mine, other


def measure(method: str, batch: int, precision: str, rounds: int, compiled: bool = True) -> dict:
    views = views_of(batch)
    runs = {
        'lightly': Lightly(method, views, precision),
        'ssl_zoo': Ours(method, views, precision, False),
    }
    equal_work(runs['ssl_zoo'], runs['lightly'])
    if compiled:
        runs['ssl_zoo, compiled'] = Ours(method, views, precision, True)
        runs['backbone alone, compiled'] = Alone(method, views, precision)
    times = alternate(runs, rounds, warm_up=2)
    rows = rows_of(times, batch, 'lightly')
    figures = dict(method=method, batch=batch, precision=precision, rows=rows)
    if compiled:
        figures['share'] = statistics.median(
            b / a
            for a, b in zip(
                times['ssl_zoo, compiled'], times['backbone alone, compiled'], strict=True
            )
        )
    return figures


def curve(method: str, batch: int, precision: str, steps: int = 20) -> dict:
    """Return the largest relative difference of the losses of the compiled and the eager step.

    Both start from the same seed and get the same views at every step.
    """
    losses = []
    for compiled in (False, True):
        step = Ours(method, views_of(batch), precision, compiled)
        for _ in range(steps):
            step()
        losses.append(torch.stack(step.losses))
    difference = ((losses[0] - losses[1]).abs() / losses[0].abs()).tolist()
    return dict(
        method=method,
        precision=precision,
        steps=steps,
        first=difference[0],
        worst=max(difference),
        losses=[losses[0][-1].item(), losses[1][-1].item()],
    )


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument('--methods', nargs='+', default=list(METHODS), choices=list(METHODS))
    parser.add_argument('--batches', type=int, nargs='+', default=[64, 256])
    parser.add_argument(
        '--precisions', nargs='+', default=['float32', 'bf16'], choices=['float32', 'bf16']
    )
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    parser.add_argument('--curve', action='store_true', help='compare losses in place of times')
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(
        f'CIFAR ResNet-18, {machine()["gpu"] or machine()["cpu"]}, {args.threads} threads, torch '
        f'{torch.__version__}, '
        f'median of {args.rounds} rounds'
    )
    done = []
    for method in args.methods:
        for precision in args.precisions:
            if args.curve:
                done.append(curve(method, 16, precision))
                row = done[-1]
                print(
                    f'{method}, {precision}: losses of {row["steps"]} steps differ by '
                    f'{row["first"]:.1e} at the first, at most '
                    f'{row["worst"]:.1e}; the last are {row["losses"][0]:.4f} and '
                    f'{row["losses"][1]:.4f}',
                    flush=True,
                )
                continue
            for batch in args.batches:
                done.append(measure(method, batch, precision, args.rounds))
                print(f'{method}, batch {batch}, {precision}')
                table(done[-1]['rows'], 'samples', 'lightly')
                print(
                    f'  our compiled step has {done[-1]["share"]:.0%} of the speed of the backbone '
                    'alone',
                    flush=True,
                )
    write(args.json, command='step', figures=done)


if __name__ == '__main__':
    main()
