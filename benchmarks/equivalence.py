"""Compare training on two processes with training on one, for every method, in float64.

    python benchmarks/equivalence.py                          # a table; --json FILE writes the same
    python benchmarks/equivalence.py --methods BYOL SimCLR
    python benchmarks/equivalence.py --small                  # views of at most 20 pixels

Each variant takes three optimizer steps on the same global batches:

    (a) one process                             (b) two processes joined by gloo
    (c) one process, two passes per step        (d) two processes, two passes per step
    (e) one process, no BatchNorm               (f) as (e), two passes per step

The table compares b with a, d with c, and f with e: the losses, every gradient of every step,
BatchNorm's running statistics, and after the last step the weights, their averages, queues and
centres. A figure is the largest difference in its column, relative to the largest value of its
tensor. f differs from e for methods with a ``batch_coupling``, because a pass sees half of the
batch.
"""

import argparse
import json
import tempfile
import time
import warnings
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mmengine.model import MMDistributedDataParallel
from torch import nn

from ssl_zoo.build import build_method
from ssl_zoo.config.loading import load_config
from ssl_zoo.data.random import mix
from ssl_zoo.distributed import rank, world_size
from ssl_zoo.distributed.batchnorm import RunningStatistics, convert_sync_batchnorm
from ssl_zoo.engine.optim_wrapper import ZooOptimWrapper, build_optimizer
from ssl_zoo.engine.plan import Plan
from ssl_zoo.engine.timed_step import synthetic_batch
from ssl_zoo.layers import batchnorm_to_groupnorm
from ssl_zoo.method import Method
from ssl_zoo.registry import METHODS

ROOT = Path(__file__).parents[1]
BATCH = 16
STEPS = 3
# Queues so small that they wrap, or fill, within the steps.
SMALL = {
    'MoCo': dict(queue_size=40),
    'ReSSL': dict(queue_size=40),
    'NNCLR': dict(queue_size=40),
    'SwAV': dict(queue_size=32),
    'WMSE': dict(whiten_size=8, proj_dim=4),
}
VARIANTS = {
    'SimCLR, v2 head': ('SimCLR', dict(proj_layers=3)),
    'MoCo v1': ('MoCo', dict(hidden_dim=None)),
    'MoCo, as many parts as processes': ('MoCo', dict(bn_splits=2)),
    'MoCoV3, ViT heads': ('MoCoV3', dict(proj_layers=3, predictor_norm=True)),
    'DCLW': ('DCL', dict(sigma=0.5)),
    'DINO, gains': ('DINO', dict(norm_last_layer=False)),
    'SwAV, no queue': ('SwAV', dict(queue_size=0)),
    'BYOL, GroupNorm': ('BYOL', dict(groups=4)),
    "SimCLR of BYOL's ablation": ('BYOLAblation', dict(target='gradient', pred_layers=0)),
    'BYOL, batch-normalised': ('BYOLAblation', dict(negatives=0.0, normalise='batch')),
    'BYOL without negatives': ('BYOLAblation', dict(negatives=0.0)),
}
# Case -> (processes, passes per step, whether with BatchNorm).
CASES = dict(
    a=(1, 1, True), b=(2, 1, True), c=(1, 2, True), d=(2, 2, True), e=(1, 1, False), f=(1, 2, False)
)
# Pairs of cases: 2 processes; 2 processes and 2 passes; 2 passes without BatchNorm.
COMPARED = dict(processes='ba', both='dc', passes='fe')


def names() -> list[str]:
    return [
        name
        for name in METHODS.names()
        if METHODS.find(name).__module__.startswith('ssl_zoo.methods')
    ] + list(VARIANTS)


def settings_of(name: str, small: bool = False):
    method, changes = VARIANTS.get(name, (name, {}))
    for path in sorted((ROOT / 'configs').glob('[!_]*/digits*.py')):
        if path.parent.name == 'studies':
            continue
        settings = load_config(path)
        if settings.method['type'] == method:
            settings.method.update(SMALL.get(method, {}))
            settings.method.update(
                changes,
                backbone=dict(name='resnet18', stem='cifar', width=0.125, layers=[1, 1, 1, 1]),
            )
            settings.batch_size = BATCH
            if small:
                settings.views = [
                    {**view, 'size': min(view['size'], 20)} for view in settings.views
                ]
            return settings
    raise SystemExit(f'there is no method {name!r}; there are {", ".join(names())}')


class GivenViews(nn.Module):
    """Replaces the data preprocessor: the views are made already."""

    def forward(self, data, training=False):
        return data


def trained(
    name: str, passes: int, batchnorm: bool, small: bool
) -> dict[str, dict[str, torch.Tensor]]:
    """Train STEPS steps; return losses, gradients and final state as {kind: {name: tensor}}.

    Args:
        name: a method or one of VARIANTS.
        passes: forward and backward passes per step.
        batchnorm: whether to keep BatchNorm; False replaces it by GroupNorm.
        small: whether to reduce the views to 20 pixels.
    """
    settings = settings_of(name, small)
    method = build_method(settings, microbatch_images=BATCH // passes)
    views = method.data_preprocessor.double()
    if not batchnorm:
        batchnorm_to_groupnorm(method, 4)
    method.double().train()
    method.data_preprocessor = GivenViews()
    # Late enough in training that all parts of a method are active.
    method.progress = 0.5
    method.epoch = 10_000.0
    model = wrapped(method) if world_size() > 1 else method
    optimizer = build_optimizer(settings, Plan.of(settings, 1257), method)
    wrapper = ZooOptimWrapper(optimizer, method, settings, passes)
    statistics = RunningStatistics(method)
    for group in optimizer.param_groups:
        group['lr'] *= 0.1
    out = dict(loss={}, gradient={})
    for step in range(STEPS):
        torch.manual_seed(mix(5, step))
        batch = synthetic_batch(settings, BATCH)
        batch_views = views(batch, True)['views']  # (BATCH, 3, H, W) each
        wrapper.before_step = lambda step=step: out['gradient'].update(gradients(method, step))
        for part in range(passes):
            # Different seeds per rank, because ranks must not rely on equal random generators.
            torch.manual_seed(mix(6, step, part, rank()))
            rows = slice(
                part * BATCH // passes + rank(), (part + 1) * BATCH // passes, world_size()
            )
            data = dict(
                views=[view[rows].double() for view in batch_views], index=batch['index'][rows]
            )
            loss = model.train_step(data, wrapper)['loss'].detach().clone()
            if world_size() > 1:
                dist.all_reduce(loss)
            out['loss'][f'{step} {part}'] = loss / world_size()
        method.after_step()
        statistics.average()
    return {**out, **state_by_kind(method)}


def wrapped(method: Method) -> nn.Module:
    """Return the method, wrapped for several processes as the trainer does."""
    if method.sync_batchnorm:
        convert_sync_batchnorm(method, torch.device('cpu'))
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', FutureWarning)
        return MMDistributedDataParallel(
            method, broadcast_buffers=False, find_unused_parameters=method.unused_parameters
        )


def gradients(method: Method, step: int) -> dict[str, torch.Tensor]:
    return {
        f'{step} {name}': parameter.grad.clone()
        for name, parameter in method.named_parameters()
        if parameter.grad is not None
    }


def state_by_kind(method: Method) -> dict[str, dict[str, torch.Tensor]]:
    """Return the floating-point tensors of the method's state by kind.

    Kinds are trained weights, statistics, and averages with queues.
    """
    trained_names = {name for name, p in method.named_parameters() if p.requires_grad}
    out: dict[str, dict[str, torch.Tensor]] = {}
    for name, value in method.state_dict().items():
        if name in trained_names:
            kind = 'weights'
        elif 'running' in name:
            kind = 'statistics'
        else:
            kind = 'average and queue'
        if value.is_floating_point():
            out.setdefault(kind, {})[name] = value
    return out


def work(number: int, folder: str, chosen: list[str], small: bool, processes: int) -> None:
    torch.set_num_threads(1)
    if processes > 1:
        dist.init_process_group(
            'gloo', init_method=f'file://{folder}/store', rank=number, world_size=processes
        )
    for name in chosen:
        for case, (n, passes, batchnorm) in CASES.items():
            if n == processes:
                out = trained(name, passes, batchnorm, small)
                if number == 0:
                    torch.save(out, f'{folder}/{case} {name}.pt')
    if processes > 1:
        dist.destroy_process_group()


def difference(a: dict, b: dict) -> dict[str, float]:
    """Return {kind: largest relative difference}.

    A difference is relative to the largest value of its tensor, or to 1e-6 of the largest value of
    its kind if that is more.
    """
    worst = {}
    for kind in a:
        assert a[kind].keys() == b[kind].keys(), (
            f'{kind}: {sorted(a[kind].keys() ^ b[kind].keys())}'
        )
        least = 1e-6 * max(
            v.abs().max().item() for v in b[kind].values()
        )  # tensors that are 0 up to rounding stay below this value
        worst[kind] = max(
            (a[kind][key] - value).abs().max().item() / max(value.abs().max().item(), least, 1e-300)
            for key, value in b[kind].items()
        )
    return worst


def compared(folder: str, name: str) -> dict:
    out = {}
    for what, (one, other) in COMPARED.items():
        a, b = (
            torch.load(f'{folder}/{case} {name}.pt', weights_only=True) for case in (one, other)
        )
        if what == 'passes':  # the mean of the passes is the loss of the step
            a['loss'] = {
                f'{s} 0': (a['loss'][f'{s} 0'] + a['loss'][f'{s} 1']) / 2 for s in range(STEPS)
            }
        out[what] = difference(a, b)
    settings = settings_of(name)
    return dict(out, batch_coupling=build_method(settings).batch_coupling)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--methods', nargs='+', default=names(), help='some of: ' + ', '.join(names())
    )
    parser.add_argument('--small', action='store_true', help='views of at most 20 pixels')
    parser.add_argument('--json', help='file for the figures')
    args = parser.parse_args()
    for name in args.methods:
        settings_of(name)
    started = time.time()
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for processes in (1, 2):
            # A fork shares the modules that are imported. No thread has been started so far.
            mp.start_processes(
                work,
                args=(folder, args.methods, args.small, processes),
                nprocs=processes,
                start_method='fork',
            )
        for name in args.methods:
            results[name] = compared(folder, name)
    kinds = ('loss', 'gradient', 'statistics', 'weights', 'average and queue')
    print(
        f'largest relative difference over {STEPS} steps of {BATCH} images, float64, torch '
        f'{torch.__version__}'
    )
    print(
        f'{"":<34}{"2 processes against 1":^63}  {"2 x 2 passes":>12}  2 passes against 1, no '
        'BatchNorm'
    )
    print(
        f'{"":<34}'
        + ''.join(
            f'{kind:>13}' for kind in ('loss', 'gradient', 'BN stat.', 'weights', 'EMA, queue')
        )
    )
    for name, r in results.items():
        two = r['processes']
        passes = max(r['passes'].values())
        half = f'  (half is seen of: {r["batch_coupling"]})' if r['batch_coupling'] else ''
        print(
            f'{name:<34}'
            + ''.join(f'{two[kind]:13.1e}' if kind in two else f'{"-":>13}' for kind in kinds)
            + f'{max(r["both"].values()):12.1e}  {passes:10.1e}{half}'
        )
    print(f'{time.time() - started:.0f} s')
    if args.json:
        Path(args.json).write_text(json.dumps(results))


if __name__ == '__main__':
    main()
