"""The step of BYOL with ResNet-50 at 224 px in bf16, beside lightly's on the same card.

- our step, eager, compiled and with CUDA graphs, from views in the device's memory;
- our step fed by our input path from JPEG bytes;
- lightly's step on the same views;

and the share of the device's bf16 peak that each step reaches. The peak is the best speed of large
matrix products; torch counts the operations of the step. The rounds of all steps alternate.
"""

import copy
import statistics
import sys
import time
from collections.abc import Callable

import torch
from session import DEVICE, ROOT, Session, wait
from torch import nn

import ssl_zoo.methods  # noqa: F401
from ssl_zoo.build import build_method
from ssl_zoo.config.loading import load_config
from ssl_zoo.data.loader import default_workers, train_loader
from ssl_zoo.data.view_dataset import ViewDataset
from ssl_zoo.engine.model import transform_backbones
from ssl_zoo.engine.optim_wrapper import ZooOptimWrapper, build_optimizer
from ssl_zoo.engine.plan import Plan
from ssl_zoo.engine.step_flops import step_flops

sys.path.append(str(ROOT / 'benchmarks'))
import input_path  # noqa: E402
from common import alternate, jpegs  # noqa: E402


class Ours:
    """The training loop's step of configs/byol/r50_imagenet.py, on batches of its loader."""

    def __init__(
        self, batch: int, compiled: bool | str, small: bool = False, recompute: bool = False
    ):
        options = [f'batch_size={batch}', f'compile={compiled}', f'recompute={recompute}']
        if small:
            options += ['method.backbone.name=resnet18', 'method.backbone.width=0.125']
            options += ['method.hidden_dim=64', 'precision=float32']
        self.settings = load_config(str(ROOT / 'configs/byol/r50_imagenet.py'), options)
        self.settings.seed = 0
        self.method = build_method(self.settings).to(DEVICE).train()
        transform_backbones(self.method, self.settings, DEVICE)
        self.plan = Plan.of(self.settings, 1_281_167)
        self.wrapper = ZooOptimWrapper(
            build_optimizer(self.settings, self.plan, self.method), self.method, self.settings, 1
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

    def __init__(self, batch: int, size: int = 224):
        super().__init__()
        self.views = [
            torch.randn(batch, 3, size, size, device=DEVICE).contiguous(
                memory_format=torch.channels_last
            )
            for _ in range(2)
        ]

    def forward(self, data, training=True):
        return dict(views=self.views, index=None)


class Lightly:
    """The step of lightly's BYOL example with ResNet-50, under bf16 autocast, on the same views."""

    def __init__(self, views: list[torch.Tensor], small: bool):
        from lightly.loss import NegativeCosineSimilarity
        from lightly.models.modules import BYOLPredictionHead, BYOLProjectionHead
        from lightly.models.utils import deactivate_requires_grad, update_momentum
        from torchvision.models import resnet18, resnet50

        resnet, width = (resnet18(), 512) if small else (resnet50(), 2048)
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


def peak(small: bool) -> float:
    """Return the highest measured bf16 operations/s, for matrix products of 8192 x 8192."""
    n = 256 if small else 8192
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


def measure_step(session: Session, batch: int, most: float, recompute: bool = False) -> dict:
    """Time the steps on a batch in alternating rounds.

    Args:
        session: the call of the piece.
        batch: number of images.
        most: the measured peak in operations/s.
        recompute: whether the backward pass of our steps computes the activations again; lightly
            and CUDA graphs, which need more memory, are then left out.

    Returns:
        images/s, the ratio to lightly and the share of the peak of each step; operations of a step.
    """
    there = There(batch, 32 if session.small else 224)
    steps: dict[str, Callable[[], object]] = {}
    left_out: dict[str, str] = {}
    kinds: dict[str, bool | str] = {'ssl_zoo': False, 'ssl_zoo, compiled': True}
    if not recompute:
        kinds['ssl_zoo, CUDA graphs'] = 'reduce-overhead'
    if session.small:
        kinds = {'ssl_zoo': False}
    for name, compiled in kinds.items():
        _add(
            steps, left_out, name, lambda c=compiled: _our_step(batch, c, there, session, recompute)
        )
    if not recompute:
        _add(steps, left_out, 'lightly', lambda: Lightly(there.views, session.small))
    times = alternate(steps, rounds=1 if session.small else 5, warm_up=1)
    plan = Ours(batch, False, session.small).plan
    operations = step_flops(plan)
    rows = {}
    for name, seconds in times.items():
        median = statistics.median(seconds)
        row = dict(images_per_second=batch / median, of_peak=operations / median / most)
        if 'lightly' in times:
            pairs = zip(seconds, times['lightly'], strict=True)
            row['times_lightly'] = statistics.median(b / a for a, b in pairs)
        rows[name] = row
        print(f'  {name:<24}{row["images_per_second"]:9.1f} images/s', flush=True)
    return dict(
        batch=batch,
        recompute=recompute,
        rows=rows,
        left_out=left_out,
        operations=operations,
        peak_memory_gb=torch.cuda.max_memory_allocated() / 1e9 if DEVICE.type == 'cuda' else None,
    )


def _our_step(
    batch: int, compiled: bool | str, there: nn.Module, session: Session, recompute: bool
) -> Callable[[], object]:
    ours = Ours(batch, compiled, session.small, recompute)
    ours.method.data_preprocessor = there
    return lambda: ours({})


def _add(
    steps: dict[str, Callable[[], object]],
    left_out: dict[str, str],
    name: str,
    make: Callable[[], Callable[[], object]],
) -> None:
    """Make a step and do it three times; if it fails, leave it out and say why."""
    try:
        step = make()
        for _ in range(3):
            step()
        wait()
    except (ImportError, torch.OutOfMemoryError) as error:
        left_out[name] = f'{type(error).__name__}: {str(error).splitlines()[0][:200]}'
        print(f'  {name} is left out: {left_out[name]}', flush=True)
        if DEVICE.type == 'cuda':
            torch.cuda.empty_cache()
        return
    steps[name] = step


def from_jpegs(session: Session, batch: int) -> dict:
    """Return images/s of the compiled step fed by the loader, from the second batch on."""
    ours = Ours(batch, not session.small, session.small)
    folder = session.data / 'imagenet_sample100'
    files = jpegs(str(folder) if folder.is_dir() else None, 4 if session.small else 100)
    files *= 1 if session.small else 10
    batches = 1 if session.small else 30
    dataset = ViewDataset(input_path.Bytes(files), ours.settings.build_views(), 0)
    workers = 0 if session.small else default_workers() or 1
    loader = iter(train_loader(dataset, batch, workers, stop=batches + 3))
    seconds = []
    for i in range(batches + 3):
        started = time.perf_counter()
        ours(next(loader))
        wait()
        if i >= 3:
            seconds.append(time.perf_counter() - started)
    noise = '' if folder.is_dir() else ', made from noise'
    return dict(
        batch=batch,
        workers=workers,
        images_per_second=batch * len(seconds) / sum(seconds),
        images=f'{len(files)} JPEGs in memory{noise}',
    )
