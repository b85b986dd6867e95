"""Runs from start to end: what moves when, resume, accumulation, precision, collapse, bad data."""

import json
import signal

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_zoo.build import build_method
from ssl_zoo.checkpoint import checkpoints_in
from ssl_zoo.engine.trainer import build_trainer
from ssl_zoo.errors import ConfigError, Stopped
from ssl_zoo.losses import feature_std
from ssl_zoo.method import Method
from ssl_zoo.methods.byol import BYOL, regression_loss
from ssl_zoo.registry import METHODS

TINY_DATA = dict(train=dict(type='Digits', split='val'), val=40, mean=[0.5] * 3, std=[0.5] * 3)


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def train(settings, work_dir, **arguments):
    runner = build_trainer(settings, work_dir, **arguments)
    runner.fit()
    return runner


@METHODS.register_module(force=True)
class Dropping(Method):
    """A toy with a counter of steps, and dropout, which uses the main process's random numbers."""

    def __init__(self, backbone=None):
        super().__init__()
        self.backbone = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 400, 8))
        self.embed_dim = 8
        self.register_buffer('steps', torch.zeros(()))
        self.seen = []

    def loss(self, views, **batch):
        self.seen.append((self.progress, batch['index'].tolist()))
        a, b = (torch.nn.functional.dropout(self.backbone(v), 0.5) for v in views)
        return dict(loss=(a - b).square().mean() + (a.std(0) - 1).square().mean(), width=a.std())

    def after_step(self):
        self.steps += 1


def test_what_a_run_leaves_behind(tiny, tmp_path):
    settings = tiny(data=TINY_DATA, online_eval=dict(every=1), log_every=5)
    runner = train(settings, tmp_path / 'run')
    assert runner.step == runner.max_steps == 14  # 2 epochs of 140 images in batches of 20
    files = {p.name for p in (tmp_path / 'run').iterdir()}
    assert files == {
        '.lock',
        'checkpoints',
        'command.txt',
        'config.py',
        'log.jsonl',
        'results.jsonl',
        'tensorboard',
        'train.log',
        'versions.json',
        'views.png',
    }
    assert [p.name for p in checkpoints_in(tmp_path / 'run')] == [
        'step_00000014.pth',
        'step_00000007.pth',
    ]
    rows = [json.loads(line) for line in (tmp_path / 'run' / 'log.jsonl').read_text().splitlines()]
    train_rows = [row for row in rows if 'train/loss' in row]
    assert [row['step'] for row in train_rows] == [1, 5, 10, 14]
    assert train_rows[0]['train/lr'] == 0 and train_rows[0]['train/decay'] == pytest.approx(0.9)
    assert all(
        0 <= row['train/loss'] <= 8
        and row['train/images_per_second'] > 0
        and 0 <= row['train/data_wait'] <= 1
        for row in train_rows
    )
    looks = [row for row in rows if 'val/knn' in row]
    assert [row['step'] for row in looks] == [0, 7, 14] and all(
        0 < row['val/feature_std'] <= 1.1 for row in looks
    )
    for look in looks:
        assert 1 <= look['val/lidar'] <= 39 and 0 <= look['val/alignment'] <= 4
        assert -8 <= look['val/uniformity'] <= 0
    assert {'train/loss', 'val/knn', 'val/rankme'} <= scalars(tmp_path / 'run' / 'tensorboard')
    results = [
        json.loads(line) for line in (tmp_path / 'run' / 'results.jsonl').read_text().splitlines()
    ]
    assert [(r['metric'], r['weights']) for r in results] == [
        (m, w)
        for w in ('trained', 'random weights')
        for m in ('knn_top1', 'probe_2_per_class_top1')
    ]
    assert (
        results[0]['value'] == looks[-1]['val/knn'] and results[2]['value'] == looks[0]['val/knn']
    )
    assert results[0]['config'] == settings.to_builtin() and results[0]['n'] == 40
    assert results[0]['checkpoint'].endswith('step_00000014.pth') and results[0]['step'] == 14
    log = (tmp_path / 'run' / 'train.log').read_text()
    for words in (
        'plan',
        '14 in 2 epochs',
        'loss',
        'lr',
        'decay',
        'images/s',
        'data wait',
        'left',
        'random weights',
        'k-NN',
    ):
        assert words in log, words
    with Image.open(tmp_path / 'run' / 'views.png') as picture:
        assert picture.size == (3 * 116 + 4, 16 + 8 * 116 + 4)


def scalars(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return set(events.Tags()['scalars'])


def test_the_same_seed_gives_the_same_weights_and_another_one_does_not(tiny, tmp_path):
    a, b, c = (
        train(tiny(seed=seed), tmp_path / name) for name, seed in (('a', 1), ('b', 1), ('c', 2))
    )
    assert same(a.method.state_dict(), b.method.state_dict())
    assert not same(a.method.state_dict(), c.method.state_dict())


def test_watching_changes_nothing_in_the_training(tiny, tmp_path):
    a, b = (
        train(
            tiny(
                data=TINY_DATA,
                method=dict(type='Dropping'),
                optimizer=dict(type='SGD'),
                online_eval=dict(every=every, probe=True),
            ),
            tmp_path / f'{every}',
        )
        for every in (0, 0.5)
    )
    assert 'linear probe' in (tmp_path / '0.5/train.log').read_text()
    assert same(a.method.state_dict(), b.method.state_dict())


@pytest.mark.parametrize(
    ('stop_after', 'workers', 'changes'),
    [
        (3, 0, {}),
        (7, 2, {}),
        pytest.param(9, 1, dict(accumulate=2, precision='bf16'), marks=pytest.mark.long),
        (4, 0, dict(method=dict(type='Dropping'), optimizer=dict(type='SGD', momentum=0.9))),
        (5, 3, dict(data=dict(TINY_DATA, on_device=True), recompute=True)),
    ],
)
def test_a_stopped_run_resumes_to_the_same_weights_bit_for_bit(
    tiny, tmp_path, stop_after, workers, changes
):
    whole = train(tiny(**changes), tmp_path / 'whole')
    stopped = build_trainer(tiny(**changes, workers=workers), tmp_path / 'stopped')
    after_step = stopped.method.after_step

    def interrupt():
        after_step()
        if stopped.step + 1 == stop_after:
            signal.raise_signal(signal.SIGTERM)

    stopped.method.after_step = interrupt
    with pytest.raises(Stopped, match=f'SIGTERM after step {stop_after}') as error:
        stopped.fit()
    assert error.value.exit_code == 143
    resumed = build_trainer(tiny(**changes), tmp_path / 'stopped', resume=True)
    resumed.fit()
    assert same(whole.method.state_dict(), resumed.method.state_dict())
    a, b = (r.optim_wrapper.optimizer.state_dict()['state'] for r in (whole, resumed))
    assert all(torch.equal(a[k]['momentum_buffer'], b[k]['momentum_buffer']) for k in a)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL  # given back


TINY_BACKBONE = dict(name='resnet18', stem='cifar', width=0.125, layers=[1, 1, 1, 1])


@pytest.mark.parametrize(
    'method',
    [
        dict(type='MoCo', hidden_dim=32, proj_dim=8, queue_size=50, bn_splits=2),  # queue, shuffle
        dict(
            type='DINO',
            hidden_dim=32,
            bottleneck_dim=8,
            prototypes=20,
            temperature_warmup_epochs=2,
            warmup_teacher_temperature=0.1,
        ),
        dict(
            type='SwAV',
            hidden_dim=32,
            proj_dim=8,
            prototypes=10,
            queue_size=30,
            queue_from_epoch=0.5,
            frozen_epochs=0.8,
        ),
        dict(type='WMSE', hidden_dim=32, proj_dim=4, whiten_size=10),
    ],
    ids=lambda method: method['type'],
)
def test_queues_centres_and_what_depends_on_the_epoch_resume_bit_for_bit(tiny, tmp_path, method):
    settings = dict(
        method=dict(method, backbone=TINY_BACKBONE),
        optimizer=dict(type='SGD', momentum=0.9),
        base_lr=0.5,
        weight_decay_end=0.01,
        clip_grad=1,
        schedule=dict(end=0.1, start=0.2),
        checkpoint=dict(every=0.1, keep=20),
    )
    whole = train(tiny(**settings), tmp_path / 'whole')
    resumed = train(
        tiny(**settings),
        tmp_path / 'other',
        resume=str(tmp_path / 'whole' / 'checkpoints' / 'step_00000005.pth'),
    )
    assert same(whole.method.state_dict(), resumed.method.state_dict())


def test_progress_and_order_of_a_resumed_run(tiny, tmp_path):
    settings = tiny(
        method=dict(type='Dropping'), optimizer=dict(type='SGD'), checkpoint=dict(every=1, keep=5)
    )
    whole = train(settings, tmp_path / 'whole')
    assert [p for p, _ in whole.method.seen] == [k / 14 for k in range(14)]
    resumed = train(
        settings,
        tmp_path / 'other',
        resume=str(tmp_path / 'whole' / 'checkpoints' / 'step_00000007.pth'),
    )
    assert resumed.method.seen == whole.method.seen[7:]


def test_accumulation_steps_once_and_gives_the_gradient_of_the_whole_batch(tiny, tmp_path):
    """A loss that is a mean over samples, without BatchNorm: accumulating must not change the run
    beyond rounding.
    """

    @METHODS.register_module(force=True)
    class Plain(Dropping):
        def loss(self, views, **batch):
            self.seen.append(self.progress)
            return dict(loss=(self.backbone(views[0]) - self.backbone(views[1])).square().mean())

    a, b = (
        train(
            tiny(method=dict(type='Plain'), optimizer=dict(type='SGD', momentum=0.9), accumulate=n),
            tmp_path / f'{n}',
        )
        for n in (1, 4)
    )
    assert a.method.steps == b.method.steps == 14  # after_step: once per optimizer step
    assert b.method.seen == [k / 14 for k in range(14) for _ in range(4)]
    torch.testing.assert_close(
        a.method.backbone[1].weight, b.method.backbone[1].weight, rtol=1e-4, atol=1e-6
    )


def test_target_follows_the_online_weights_after_the_step(tiny, tmp_path):
    runner = build_trainer(tiny(warmup_epochs=0), tmp_path)
    target, online = runner.method.target.network.projector[0], runner.method.online.projector[0]
    seen, update = [target.weight.clone()], runner.optim_wrapper.optimizer.step
    after_step = runner.method.after_step

    def record():
        after_step()
        expected = runner.method.decay * seen[-1] + (1 - runner.method.decay) * online.weight
        torch.testing.assert_close(target.weight, expected.detach())
        seen.append(target.weight.clone())

    runner.method.after_step = record
    steps = []
    runner.optim_wrapper.optimizer.step = lambda *a, **k: (steps.append(len(seen)), update(*a, **k))
    runner.fit()
    assert (
        steps == list(range(1, 15)) and len(seen) == 15
    )  # each optimizer step lies before its EMA step
    assert not torch.equal(seen[0], seen[1])


def test_learning_rates_follow_the_plan_and_fixed_ones_stay(tiny, tmp_path):
    @METHODS.register_module(force=True)
    class Fixed(Dropping):
        fixed_lr, lr_scale = ('head',), {'head': 3.0}

        def __init__(self):
            super().__init__()
            self.head = torch.nn.Linear(8, 8, bias=False)

        def loss(self, views, **batch):
            return dict(loss=self.head(self.backbone(views[0])).square().mean())

    runner = build_trainer(
        tiny(
            method=dict(type='Fixed'),
            optimizer=dict(type='SGD'),
            base_lr=0.1,
            weight_decay=0.04,
            weight_decay_end=0.4,
            norm_and_bias_lr=0.5,
        ),
        tmp_path,
    )
    optimizer, seen = runner.optim_wrapper.optimizer, []
    step = optimizer.step
    optimizer.step = lambda *a, **k: (
        seen.append(
            {
                (g['scheduled'], g['adapt']): (g['lr'], g['weight_decay'])
                for g in optimizer.param_groups
            }
        ),
        step(*a, **k),
    )
    runner.fit()
    plan = runner.plan
    assert [rates[True, True] for rates in seen] == [
        (plan.lr(k), plan.weight_decay(k)) for k in range(14)
    ]
    assert seen[0][True, True] == pytest.approx((0, 0.04)) and 0.38 < seen[-1][True, True][1] < 0.4
    assert [rates[True, False] for rates in seen] == [(0.5 * plan.lr(k), 0.0) for k in range(14)]
    assert {rates[False, True][0] for rates in seen} == {3 * plan.peak_lr}


def test_dropout_differs_from_step_to_step(tiny, tmp_path):
    runner = build_trainer(tiny(method=dict(type='Dropping'), optimizer=dict(type='SGD')), tmp_path)
    masks = []
    runner.method.loss = lambda views, **batch: (
        masks.append(torch.rand(4).tolist()),
        dict(loss=runner.method.backbone[1].weight.sum()),
    )[1]
    runner.fit()
    assert len({tuple(mask) for mask in masks}) == 14


def test_target_moves_once_per_optimizer_step_under_accumulation(tiny, tmp_path):
    runner = build_trainer(tiny(accumulate=2), tmp_path)
    moves = []
    update = runner.method.target.update
    runner.method.target.update = lambda source, decay: (moves.append(decay), update(source, decay))
    runner.fit()
    assert len(moves) == 14 and moves[0] == 0.9 and moves == sorted(moves)


@pytest.mark.parametrize(
    ('precision', 'channels_last'),
    [
        ('bf16', True),
        pytest.param('bf16', False, marks=pytest.mark.long),
        pytest.param('float32', True, marks=pytest.mark.long),
        pytest.param('float32', False, marks=pytest.mark.long),
    ],
)
def test_precision_and_memory_format_give_nearly_the_same_run(
    tiny, tmp_path, precision, channels_last
):
    def losses(name, **changes):
        train(tiny(log_every=1, **changes), tmp_path / name)
        return [
            json.loads(line)['train/loss']
            for line in (tmp_path / name / 'log.jsonl').read_text().splitlines()
        ]

    changed = losses('changed', precision=precision, channels_last=channels_last)
    # At the first step weights are equal, so only rounding differs; later small differences grow.
    reference = losses('reference')
    assert changed[0] == pytest.approx(reference[0], rel=0.02 if precision == 'bf16' else 1e-4)
    np.testing.assert_allclose(
        changed[:4], reference[:4], rtol=0.1 if precision == 'bf16' else 0.02
    )


def test_bf16_really_runs_in_bf16_and_keeps_float32_weights(tiny, tmp_path):
    runner = build_trainer(tiny(precision='bf16', channels_last=True), tmp_path)
    seen = []
    runner.method.online.projector[0].register_forward_hook(lambda m, i, o: seen.append(o.dtype))
    runner.method.online.backbone.conv1.register_forward_hook(
        lambda m, i, o: seen.append(
            (i[0].dtype, i[0].is_contiguous(memory_format=torch.channels_last))
        )
    )
    runner.fit()
    assert set(seen) == {torch.bfloat16, (torch.float32, True)}  # views are made in float32
    assert {p.dtype for p in runner.method.parameters()} == {torch.float32}


@pytest.mark.long
def test_collapse_is_warned_of(tiny, tmp_path):
    @METHODS.register_module(force=True)
    class NothingHoldsItApart(BYOL):
        """No predictor, no target, no stop-gradient: the loss draws all images to one vector."""

        def loss(self, views, **batch):
            z1, z2 = (self.online(x) for x in views)
            return dict(loss=2 * regression_loss(z1, z2), feature_std=feature_std(z1))

    changes = dict(epochs=12, base_lr=20.0, online_eval=dict(every=3))
    train(
        tiny(method={**tiny().method, 'type': 'NothingHoldsItApart'}, **changes),
        tmp_path / 'collapsing',
    )
    assert (
        'warning: the projections are collapsing'
        in (tmp_path / 'collapsing' / 'train.log').read_text()
    )
    train(tiny(**changes), tmp_path / 'byol')
    assert 'warning' not in (tmp_path / 'byol' / 'train.log').read_text()


def test_a_loss_that_is_not_finite_stops_the_run_and_is_not_saved(tiny, tmp_path):
    @METHODS.register_module(force=True)
    class Exploding(Dropping):
        def loss(self, views, **batch):
            factor = float('nan') if self.progress >= 8 / 14 else 1.0
            return dict(loss=factor * self.backbone(views[0]).square().mean())

    runner = build_trainer(
        tiny(method=dict(type='Exploding'), optimizer=dict(type='SGD')), tmp_path
    )
    with pytest.raises(
        FloatingPointError,
        match="not finite at step 8: the term 'loss' of the loss.*Images of the batch: 138, 77",
    ):
        runner.fit()
    assert [p.name for p in checkpoints_in(tmp_path)] == ['step_00000007.pth']


def test_two_losses_or_none_are_refused():
    class Two(Dropping):
        def loss(self, views, **batch):
            return dict(loss=torch.ones(()), loss_inv=torch.ones(()))

    with pytest.raises(ValueError, match='exactly one name with "loss" in it'):
        Two()([])
    Two.loss = lambda self, views: dict(total=torch.ones(()))
    with pytest.raises(ValueError, match='exactly one name'):
        Two()([])


def test_timm_weights_are_not_drawn_again_when_training_starts(tiny, tmp_path):
    runner = build_trainer(tiny(), tmp_path)
    runner.method.init_weights()
    assert same(
        {k: v for k, v in runner.method.state_dict().items()}, build_method(tiny()).state_dict()
    )


def broken_images(image_folder, broken):
    root = image_folder(classes=2, per_class=30, size=24)
    for i in broken:
        (root / 'class_1' / f'{i}.png').write_bytes(b'broken')
    return dict(type='ImageFolder', root=str(root))


def test_unreadable_images_are_counted_and_listed(tiny, tmp_path, image_folder):
    train_data = broken_images(image_folder, [3, 4])
    train(tiny(data=dict(train=train_data, max_unreadable=0.05)), tmp_path / 'run')
    last = (tmp_path / 'run' / 'train.log').read_text().splitlines()[-1]
    assert (
        '2 of 60 training images could not be read and were skipped: class_1/3.png '
        '(UnidentifiedImageError' in last
    )
    assert 'class_1/4.png' in last


def test_too_many_unreadable_images_stop_the_run(tiny, tmp_path, image_folder):
    train_data = broken_images(image_folder, range(5))
    with pytest.raises(
        ConfigError,
        match='of 60 training images cannot be read, more than the share data.max_unreadable=0.05',
    ):
        train(tiny(data=dict(train=train_data, max_unreadable=0.05)), tmp_path / 'run')


def test_unlabelled_images_train_and_are_watched_without_knn(tiny, tmp_path, image_folder):
    root = image_folder(classes=1, per_class=40, size=24)
    train(
        tiny(data=dict(train=dict(type='Images', root=str(root))), online_eval=dict(every=1)),
        tmp_path / 'run',
    )
    log = (tmp_path / 'run' / 'train.log').read_text()
    assert 'feature_std' in log and 'k-NN' not in log
    assert not (tmp_path / 'run' / 'results.jsonl').exists()


def test_val_cut_from_train_is_not_trained_on_unless_asked(tiny, tmp_path):
    for on_val, images in ((False, 140), (True, 180)):
        runner = build_trainer(
            tiny(data=dict(train=dict(type='Digits', split='val'), val=40, train_on_val=on_val)),
            tmp_path / f'{on_val}',
        )
        assert runner.plan.images == images
        hook = next(hook for hook in runner.hooks if type(hook).__name__ == 'OnlineEvaluationHook')
        assert not set(hook.bank.indices) & set(hook.val.indices)


def test_the_test_set_is_what_is_reported_on(tiny, tmp_path, image_folder):
    train_root, test_root = (
        image_folder(classes=3, per_class=20, name='train'),
        image_folder(classes=3, per_class=4, name='test'),
    )
    (test_root / 'class_0' / '1.png').write_bytes(b'broken')
    for file in (test_root / 'class_1').iterdir():
        file.unlink()
    (test_root / 'class_1').rmdir()  # a class less, so its folders are numbered otherwise
    data = dict(
        train=dict(type='ImageFolder', root=str(train_root)),
        val=15,
        test=dict(type='ImageFolder', root=str(test_root)),
    )
    runner = train(tiny(data=data, online_eval=dict(every=1)), tmp_path / 'run')
    rows = [
        json.loads(line) for line in (tmp_path / 'run' / 'results.jsonl').read_text().splitlines()
    ]
    hook = next(hook for hook in runner.hooks if type(hook).__name__ == 'OnlineEvaluationHook')
    assert {row['n'] for row in rows} == {7} and {row['test_manifest'] for row in rows} == {
        hook.test.manifest()
    }
    assert {row['bank_images'] for row in rows} == {45}
    assert hook.test.labels.tolist() == [0] * 4 + [2] * 4
    assert (
        'left out of evaluation: class_0/1.png (UnidentifiedImageError'
        in (tmp_path / 'run' / 'train.log').read_text()
    )


def test_images_with_several_classes_are_trained_on_without_figures_of_one_class(
    tiny, tmp_path, image_folder
):
    root = image_folder(classes=2, per_class=30)
    lines = [f'class_{c}/{i}.png\tanimal,{"ab"[c]}\n' for c in range(2) for i in range(30)]
    (root / 'list.txt').write_text(''.join(lines))
    cfg = dict(type='FileList', path=str(root / 'list.txt'), separator=',')
    data = dict(train=cfg, val=20, test=cfg)
    runner = train(tiny(data=data, online_eval=dict(every=1), epochs=1), tmp_path / 'run')
    log = (tmp_path / 'run' / 'train.log').read_text()
    assert 'images of data.train have several classes each: k-NN and probes of one class' in log
    assert 'RankMe' in log and 'k-NN ' not in log.replace('k-NN and probes', '')
    assert runner.step == runner.max_steps
    assert not (tmp_path / 'run' / 'results.jsonl').exists()


def test_a_test_set_without_labels_is_refused(tiny, tmp_path, image_folder):
    with pytest.raises(ConfigError, match='data.test has no labels'):
        build_trainer(
            tiny(data={**TINY_DATA, 'test': dict(type='Images', root=str(image_folder()))}),
            tmp_path,
        )


def test_one_class_gives_no_figures_and_no_crash(tiny, tmp_path, image_folder):
    root = image_folder(classes=1, per_class=40)
    train(tiny(data=dict(train=dict(type='ImageFolder', root=str(root)), val=10)), tmp_path / 'run')
    assert 'no results on test images' in (tmp_path / 'run' / 'train.log').read_text()


def test_fractional_intervals(tiny, tmp_path):
    how_often = dict(checkpoint=dict(every=1.5, keep=9), online_eval=dict(every=0.5))
    train(tiny(data=TINY_DATA, epochs=4, **how_often), tmp_path)
    assert [p.name for p in checkpoints_in(tmp_path)][::-1] == [
        f'step_{k:08d}.pth' for k in (11, 21, 28)
    ]  # 7 steps an epoch
    looks = [
        row['step']
        for row in map(json.loads, (tmp_path / 'log.jsonl').read_text().splitlines())
        if 'val/knn' in row
    ]
    assert looks == [0, 4, 7, 11, 14, 18, 21, 25, 28]


def test_the_last_checkpoint_is_written_before_anything_that_may_fail(tiny, tmp_path, monkeypatch):
    runner = build_trainer(tiny(data=TINY_DATA), tmp_path)
    hook = next(hook for hook in runner.hooks if type(hook).__name__ == 'OnlineEvaluationHook')
    monkeypatch.setattr(hook, 'report', lambda runner: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        runner.fit()
    assert checkpoints_in(tmp_path)[0].name == 'step_00000014.pth'


def test_other_classes_in_val_or_test_are_refused(tiny, tmp_path, image_folder):
    with pytest.raises(
        ConfigError,
        match='data.test has classes that data.train does not have: class_0, class_1, class_2',
    ):
        build_trainer(
            tiny(
                data=dict(
                    train=dict(type='Digits'),
                    test=dict(type='ImageFolder', root=str(image_folder())),
                )
            ),
            tmp_path,
        )
