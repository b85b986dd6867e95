"""Values that are not finite, put in everywhere: the tensor and the step that are named, what is
kept, what is left alone.
"""

import json
import re
import signal

import pytest
import torch

from ssl_zoo.checkpoint import checkpoints_in, read_checkpoint
from ssl_zoo.config.loading import load_config
from ssl_zoo.engine.hooks.non_finite import NonFiniteHook
from ssl_zoo.engine.replay import replay_step
from ssl_zoo.engine.trainer import build_trainer
from ssl_zoo.errors import ConfigError, Stopped
from ssl_zoo.method import Method
from ssl_zoo.registry import METHODS


class Poison(torch.autograd.Function):
    """The identity, with a gradient that is not."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * float('nan')


class Part(torch.nn.Module):
    def __init__(self, bad=None):
        super().__init__()
        self.linear, self.bad = torch.nn.Linear(12, 12), None

    def forward(self, x):
        y = self.linear(x)
        return y if self.bad is None else (y, y * self.bad)[1]


@METHODS.register_module(force=True)
class Faulty(Method):
    """A fault of a ``kind`` from the step ``at`` of ``steps`` on."""

    def __init__(self, kind=None, at=0, steps=14, value='nan'):
        super().__init__()
        self.backbone = torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Linear(1200, 12, bias=False), torch.nn.BatchNorm1d(12)
        )
        self.part, self.embed_dim = Part(), 12
        self.kind, self.at, self.steps, self.value = kind, at, steps, float(value)
        self.seen = []

    def loss(self, views, index, **batch):
        step = round(self.progress * self.steps)
        now = self.kind is not None and step >= self.at
        self.seen.append((step, index.tolist()))
        if now and self.kind == 'weight before the step':
            with torch.no_grad():
                self.part.linear.weight[0, 0] = self.value
        self.part.bad = self.value if now and self.kind == 'output' else None
        a, b = (self.part(self.backbone(v)) for v in views)
        if now and self.kind == 'gradient':
            with torch.no_grad():
                value = self.part.linear.bias.detach()
            a = a + Poison.apply(self.part.linear.bias) - value
        loss = (a - b).float().square().mean() + 0.1 * (a.float().std(0) - 1).square().mean()
        return dict(
            loss=loss * self.value if now and self.kind == 'loss' else loss,
            aside=torch.tensor(float('inf')),
        )

    def after_step(self):
        if self.kind in ('update', 'statistics') and round(self.progress * self.steps) >= self.at:
            with torch.no_grad():
                (
                    self.part.linear.weight[0]
                    if self.kind == 'update'
                    else self.backbone[2].running_mean
                )[0] = self.value


FAULTS = {
    'output': r'the output of part \(Part\), \((20|10), 12\)',
    'loss': "the term 'loss' of the loss",
    'gradient': r'the gradient of part\.linear\.bias',
    'statistics': r'backbone\.2\.running_mean (before|after) the step',
    'update': r'part\.linear\.weight (before|after) the step',
    'weight before the step': r'the output of part\.linear \(Linear\)',
}


def faulty(tiny, kind=None, at=6, value='nan', **changes):
    return tiny(
        **{
            **dict(
                method=dict(type='Faulty', kind=kind, at=at, value=value),
                optimizer=dict(type='SGD', momentum=0.9),
                base_lr=0.5,
                checkpoint=dict(every=1 / 7, keep=20),
            ),
            **changes,
        }
    )


def contents(work_dir):
    return {path.name: path.read_bytes() for path in checkpoints_in(work_dir)}


CASES = [
    (kind, at, log_every, {}) for at, log_every in ((6, 1), (4, 5), (6, 50)) for kind in FAULTS
]
CASES += [(kind, at, 5, {}) for at in (0, 13) for kind in ('loss', 'gradient', 'update')]
CASES += [
    (kind, 6, log_every, changes)
    for kind in ('gradient', 'update')
    for log_every, changes in ((1, dict(accumulate=2)), (5, dict(accumulate=2, precision='bf16')))
]


@pytest.mark.parametrize(('kind', 'at', 'log_every', 'changes'), CASES)
def test_the_tensor_the_step_and_the_images_are_named(tiny, tmp_path, kind, at, log_every, changes):
    runner = build_trainer(
        faulty(
            tiny,
            kind,
            at,
            'inf' if at == 5 else 'nan',
            log_every=log_every,
            **changes,
            checkpoint=dict(every=3 / 7, keep=20),
        ),
        tmp_path,
    )
    with pytest.raises(FloatingPointError) as error:
        runner.fit()
    found = re.match(
        r'not finite at step (\d+): (.*?): \d+ NaN and \d+ infinite of \d+ values\. '
        r'Images of the batch: (.*?) and (\d+) more\. ssl-zoo replay (\S+) does',
        str(error.value),
    )
    assert found and re.match(FAULTS[kind], found[2]), str(error.value)
    # What is put into the state after a step is met there if the search ends with it, and otherwise
    # before the next one.
    step = at + (kind in ('statistics', 'update') and 'before' in found[2])
    assert int(found[1]) == step
    shown = list(map(int, found[3].split(', ')))
    assert any(
        s == step
        and images[:8] == shown
        and len(images) == 8 + int(found[4]) == 20 // changes.get('accumulate', 1)
        for s, images in runner.method.seen
    )
    good = [p for p in checkpoints_in(tmp_path) if int(p.stem[5:]) <= at]
    assert checkpoints_in(tmp_path) == good and len(good) == sum(s <= at for s in (3, 6, 9, 12))
    for path in good:
        assert all(
            v.isfinite().all()
            for v in read_checkpoint(path)['method'].values()
            if v.is_floating_point()
        )
    lines = (
        [json.loads(line)['step'] for line in (tmp_path / 'log.jsonl').read_text().splitlines()]
        if step > 1
        else []
    )
    assert lines == sorted(set(lines)) and not list(tmp_path.rglob('*.tmp.*'))
    log = (tmp_path / 'train.log').read_text()
    assert log.count('going back to step') == 1 and log.count('  step 1/14') <= 1
    if kind in ('output', 'loss', 'gradient') and log_every > 1:
        told, now = replay_step(found[5])
        assert told.split(':')[0] == now.split(':')[0] == found[2].split(':')[0]


def test_a_pixel_that_is_not_finite(tiny, tmp_path):
    runner = build_trainer(faulty(tiny), tmp_path)
    real = runner.method.data_preprocessor.forward

    def forward(data, training=False):
        made = real(data, training)
        if round(runner.method.progress * 14) == 6:
            made['views'][1][4, 2, 3, 3] = float('inf')
        return made

    runner.method.data_preprocessor.forward = forward
    first_tensor = r'view 2, \(20, 3, 20, 20\): 0 NaN and 1 infinite of 24000 values'
    with pytest.raises(FloatingPointError, match=f'not finite at step 6: {first_tensor}'):
        runner.fit()


def test_it_is_found_right_after_a_resume(tiny, tmp_path):
    runner = build_trainer(faulty(tiny), tmp_path)
    after_step = runner.method.after_step
    runner.method.after_step = lambda: (
        after_step(),
        runner.step + 1 == 6 and signal.raise_signal(signal.SIGTERM),
    )
    with pytest.raises(Stopped):
        runner.fit()
    before = contents(tmp_path)
    resumed = build_trainer(faulty(tiny), tmp_path, resume=True)
    resumed.method.kind, resumed.method.at = 'loss', 6
    with pytest.raises(
        FloatingPointError, match="not finite at step 6: the term 'loss' of the loss"
    ):
        resumed.fit()
    assert contents(tmp_path) == before


def test_a_signal_that_comes_with_the_fault_stops_the_run_and_keeps_the_newest_checkpoint(
    tiny, tmp_path
):
    runner = build_trainer(
        faulty(tiny, 'loss', 6, checkpoint=dict(every=2 / 7, keep=2), log_every=50), tmp_path
    )
    hook = next(hook for hook in runner.hooks if isinstance(hook, NonFiniteHook))
    trace = hook.on_non_finite
    hook.on_non_finite = lambda runner, error: (
        signal.raise_signal(signal.SIGTERM),
        trace(runner, error),
    )
    with pytest.raises((Stopped, FloatingPointError)):
        runner.fit()
    assert checkpoints_in(tmp_path)[0].name == 'step_00000006.pth'


def test_a_method_that_fails_on_what_is_not_finite_is_explained(tiny, tmp_path):
    runner = build_trainer(
        faulty(tiny, 'update', 6, log_every=50, checkpoint=dict(every=9)), tmp_path
    )
    loss = runner.method.loss

    def strict(views, index, **batch):
        torch.linalg.cholesky(
            torch.eye(12) * runner.method.part.linear.weight[0, 0].detach().square()
        )
        return loss(views, index, **batch)

    runner.method.loss = strict
    with pytest.raises(
        FloatingPointError, match=r'not finite at step 7: part\.linear\.weight before the step'
    ):
        runner.fit()


def test_the_snapshots_change_nothing(tiny, tmp_path, monkeypatch):
    with_hook = build_trainer(faulty(tiny, log_every=2), tmp_path / 'a')
    with_hook.fit()
    monkeypatch.setattr(NonFiniteHook, 'save_good_state', lambda self, runner: None)
    without = build_trainer(faulty(tiny, log_every=2), tmp_path / 'b')
    without.fit()
    a, b = (read_checkpoint(checkpoints_in(tmp_path / d)[0]) for d in 'ab')
    assert all(torch.equal(a['method'][k], b['method'][k]) for k in a['method'])
    assert all(
        torch.equal(a['optimizer']['state'][k]['momentum_buffer'], v['momentum_buffer'])
        for k, v in b['optimizer']['state'].items()
    )


@pytest.mark.long
def test_exit_code_3_without_a_traceback_and_a_lower_rate_starts_elsewhere(
    tmp_path, root, run_tool
):
    (tmp_path / 'config.py').write_text(f"""
_backbone = dict(name='resnet18', stem='cifar', width=0.125, layers=[1, 1, 1, 1])
method = dict(type='BYOL', backbone=_backbone, hidden_dim=32, proj_dim=16)
data = dict(train=dict(type='Digits', split='val'), val=40)
views = [dict(size=20)] * 2
optimizer, epochs, batch_size, base_lr = dict(type='SGD'), 2, 20, 1e28
workers, log_every, online_eval, checkpoint = 0, 5, dict(every=0), dict(every={1 / 7})
""")
    done = run_tool(root / 'tools/train.py', tmp_path / 'config.py', '--work-dir', tmp_path / 'run')
    assert done.returncode == 3 and 'Traceback' not in done.stderr, done.stderr
    assert len(done.stderr.splitlines()) == 1 and re.search(
        r'error: not finite at step \d+: ', done.stderr
    )
    [dump] = (tmp_path / 'run').glob('not_finite_*')
    assert f'ssl-zoo replay {dump}' in done.stderr
    told = replay_step(dump)
    assert told[0].split(':')[0] == told[1].split(':')[0]
    lower = build_trainer(load_config(tmp_path / 'config.py', ['base_lr=0.01']), tmp_path / 'lower')
    lower.fit()
    assert lower.step == 14


def test_a_dump_that_is_torn_foreign_or_hostile_is_refused(tiny, tmp_path):
    with pytest.raises(FloatingPointError):
        build_trainer(faulty(tiny, 'loss'), tmp_path / 'run').fit()
    [dump] = (tmp_path / 'run').glob('not_finite_*')
    data, other = dump.read_bytes(), tmp_path / 'other.pth'
    for part in (0.1, 0.5, 0.9, 0.999):
        other.write_bytes(data[: int(len(data) * part)])
        with pytest.raises(ConfigError, match='not a readable replay file'):
            replay_step(other)
    with pytest.raises(ConfigError, match='not a replay file of ssl_zoo'):
        replay_step(checkpoints_in(tmp_path / 'run')[0])
    with pytest.raises(ConfigError, match='there is no replay file'):
        replay_step(tmp_path / 'none')

    class Hostile:
        def __reduce__(self):
            return open, (str(tmp_path / 'executed'), 'w')

    torch.save(dict(torch.load(dump, weights_only=True), found=Hostile()), other)
    with pytest.raises(ConfigError, match='would run code'):
        replay_step(other)
    assert not (tmp_path / 'executed').exists()
