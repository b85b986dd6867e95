"""Measure the time that the training loop (mmengine's Runner, our hooks) adds to a bare loop.

    python benchmarks/loop.py [--rounds 5] [--steps 400] [--json FILE]

Both loops do the same forward pass, loss, backward pass and SGD step on the same batch. The network
is one layer, so that nearly all of the time is the loop's: the difference per step is the loop's
cost for any network. A second measurement makes each step 50 ms long by sleeping and gives the
difference in per cent. Progress lines are printed every 50 steps, the default; there is no
checkpoint and no k-NN.
"""

import logging
import statistics
import tempfile
import time

import torch
from common import alternate, arguments, machine, write
from torch import nn

from ssl_zoo.config.settings import settings_from_dict
from ssl_zoo.engine.trainer import build_trainer
from ssl_zoo.method import Method
from ssl_zoo.registry import METHODS

BATCH = 8


@METHODS.register_module(force=True)
class OneLayer(Method):
    """A network of one layer; computing its loss also sleeps for ``sleep`` seconds."""

    n_views = 2

    def __init__(self, backbone: dict, sleep: float = 0.0):
        super().__init__()
        self.sleep = sleep
        self.embed_dim = 2
        self.backbone = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 2))
        self.projector = nn.Identity()

    def loss(self, views, **batch):
        if self.sleep:
            time.sleep(self.sleep)
        return dict(loss=(self.backbone(views[0]) - self.backbone(views[1])).square().mean())


class ReadyViews(nn.Module):
    """Replaces the data preprocessor: returns the same views at every step."""

    def __init__(self):
        super().__init__()
        self.views = [torch.randn(BATCH, 3, 4, 4) for _ in range(2)]
        self.register_buffer('mean', torch.zeros(1, 3, 1, 1), persistent=False)
        self.register_buffer('std', torch.ones(1, 3, 1, 1), persistent=False)

    def forward(self, data, training=True):
        return dict(views=self.views, index=data['index'])

    def denormalise(self, views):
        return (views.clamp(0, 1) * 255).byte()


def zoo_loop(steps: int, sleep: float):
    settings = settings_from_dict(
        dict(
            method=dict(type='OneLayer', backbone=dict(name='none'), sleep=sleep),
            data=dict(train=dict(type='Digits', size=8)),
            views=[dict(size=4)] * 2,
            optimizer=dict(type='SGD', momentum=0.9),
            epochs=steps * BATCH / 1257 + 1e-6,
            batch_size=BATCH,
            base_lr=0.1,
            workers=0,
            online_eval=dict(every=0),
            checkpoint=dict(every=1e9),
        )
    )
    runner = build_trainer(settings, tempfile.mkdtemp())
    runner.logger.setLevel(logging.ERROR)
    runner.method.data_preprocessor = ReadyViews()
    batch = dict(
        views=[torch.zeros(8, 3, 4, 4, dtype=torch.uint8)] * 2,
        params=[torch.zeros(8, 13)] * 2,
        index=torch.arange(BATCH),
        unreadable=[],
    )
    runner.make_loader = lambda start: iter(lambda: dict(batch), None)
    runner.call_hook('before_train')
    runner.model.train()
    runner.max_iters = 10**9
    place = 0

    def run():
        nonlocal place
        place += steps
        runner.max_steps = 10**9
        runner.forward_to(place)

    return run


def bare_loop(steps: int, sleep: float):
    method = OneLayer({}, sleep)
    views = ReadyViews().views
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1, momentum=0.9)

    def run():
        for _ in range(steps):
            loss = method.loss(views)['loss']
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    return run


def measure(rounds: int, steps: int) -> dict:
    torch.set_num_threads(1)
    figures = {}
    for name, sleep, n in (('bare', 0.0, steps), ('50 ms', 0.05, max(steps // 20, 10))):
        times = alternate({'bare loop': bare_loop(n, sleep), 'ssl_zoo': zoo_loop(n, sleep)}, rounds)
        each = {key: 1e6 * statistics.median(t) / n for key, t in times.items()}
        added = 1e6 * statistics.median(
            (b - a) / n for a, b in zip(times['bare loop'], times['ssl_zoo'], strict=True)
        )
        figures[name] = dict(microseconds=each, added=added, share=added / each['bare loop'])
    return figures


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument('--steps', type=int, default=400)
    args = parser.parse_args()
    figures = measure(args.rounds, args.steps)
    print(
        f'{machine()["cpu"]}, one thread, torch {torch.__version__}, median of {args.rounds} '
        f'rounds of {args.steps} steps'
    )
    for name, row in figures.items():
        each = ', '.join(f'{key} {value:.0f}' for key, value in row['microseconds'].items())
        print(
            f'  step of {name if name != "bare" else "one layer"}, microseconds: {each}; added '
            f'{row["added"]:.0f} ({row["share"]:.1%})'
        )
    write(args.json, command='loop', **figures)


if __name__ == '__main__':
    main()
