import math
from types import SimpleNamespace

import pytest

from ssl_zoo.build import build_method
from ssl_zoo.config.settings import Schedule
from ssl_zoo.engine.describe_plan import describe_plan
from ssl_zoo.engine.optim_wrapper import build_optimizer
from ssl_zoo.engine.plan import Plan
from ssl_zoo.errors import ConfigError

pytestmark = pytest.mark.quick


def byol(
    epochs,
    batch_size,
    base_lr,
    warmup=10,
    images=1281167,
    weight_decay=0.0,
    weight_decay_end=None,
    **schedule,
):
    settings = SimpleNamespace(
        method={},
        epochs=epochs,
        batch_size=batch_size,
        base_lr=base_lr,
        warmup_epochs=warmup,
        weight_decay=weight_decay,
        weight_decay_end=weight_decay_end,
        schedule=Schedule(**schedule),
        accumulate=1,
        max_device_batch=None,
    )
    return Plan.of(settings, images)


@pytest.mark.parametrize(
    ('epochs', 'batch_size', 'base_lr', 'steps', 'lr'),
    [
        (40, 4096, 0.45, 12511, 7.2),
        (100, 4096, 0.45, 31278, 7.2),
        (300, 4096, 0.3, 93835, 4.8),
        (1000, 4096, 0.2, 312784, 3.2),
        (1000, 512, 0.4, 2502279, 0.8),
    ],
)
def test_byols_official_presets(epochs, batch_size, base_lr, steps, lr):
    """max_steps and the scaled lr of deepmind-research byol/configs/byol.py."""
    plan = byol(epochs, batch_size, base_lr)
    assert plan.steps == steps and plan.peak_lr == pytest.approx(lr)
    if batch_size == 4096:
        assert plan.warmup_steps == 3127


def test_lr_at_its_ends():
    plan = byol(300, 4096, 0.3)
    assert plan.lr(0) == 0
    assert plan.lr(plan.warmup_steps - 1) == pytest.approx(
        4.8 * (plan.warmup_steps - 1) / plan.warmup_steps
    )
    assert plan.lr(plan.warmup_steps) == 4.8
    assert plan.lr((plan.warmup_steps + plan.steps) // 2) == pytest.approx(2.4, rel=1e-3)
    assert 0 < plan.lr(plan.steps - 1) < 1e-7
    assert plan.lr(plan.steps) == pytest.approx(0, abs=1e-12)


def test_without_warmup_the_first_step_has_the_peak_lr():
    assert byol(100, 256, 0.3, warmup=0).lr(0) == pytest.approx(0.3)


def test_epochs_are_counted_in_images():
    plan = byol(100, 4096, 0.3)
    assert plan.epoch(plan.steps) == pytest.approx(100, abs=0.01)


def test_a_cosine_between_shares_of_the_peak():
    """SwAV: from 0.3 over 10 epochs to 4.8, then to 0.0048 (scripts/swav_800ep_pretrain.sh)."""
    plan = byol(800, 4096, 0.3, start=0.3 / 4.8, end=1e-3)
    assert plan.lr(0) == pytest.approx(0.3)
    assert plan.lr(plan.warmup_steps) == pytest.approx(4.8)
    assert plan.lr(plan.steps) == pytest.approx(0.0048)
    middle = (plan.warmup_steps + plan.steps) / 2
    assert plan.lr(int(middle)) == pytest.approx((4.8 + 0.0048) / 2, rel=1e-3)


def test_steps_at_epochs():
    """MoCo v1: times 0.1 at epochs 120 and 160."""
    plan = byol(200, 250, 0.03, warmup=0, images=1000, shape='steps', milestones=(120, 160))
    peak = 0.03 * 250 / 256
    assert [plan.lr(4 * epoch) for epoch in (0, 119, 120, 159, 160, 199)] == pytest.approx(
        [peak, peak, peak * 0.1, peak * 0.1, peak * 0.01, peak * 0.01]
    )
    assert plan.lr(4 * 120 - 1) == pytest.approx(peak)


def test_a_cosine_by_epochs_is_constant_within_one():
    """MoCo v2 and SimSiam: 0.5 * (1 + cos(pi * epoch / epochs)), epoch counted from 0."""
    plan = byol(200, 250, 0.05, warmup=0, images=1000, per_epoch=True)
    peak = 0.05 * 250 / 256
    for epoch in (0, 1, 77, 199):
        expected = peak * 0.5 * (1 + math.cos(math.pi * epoch / 200))
        assert [plan.lr(step) for step in range(4 * epoch, 4 * epoch + 4)] == pytest.approx(
            [expected] * 4
        )


def test_weight_decay_may_rise_on_a_cosine():
    """DINO: 0.04 to 0.4."""
    plan = byol(100, 1000, 0.1, images=100000, weight_decay=0.04, weight_decay_end=0.4)
    assert [plan.weight_decay(step) for step in (0, plan.steps // 2, plan.steps)] == pytest.approx(
        [0.04, 0.22, 0.4]
    )
    assert byol(100, 1000, 0.1, weight_decay=1e-6).weight_decay(5) == 1e-6


# --- passes and processes


@pytest.mark.parametrize(
    ('batch_size', 'limit', 'processes', 'passes', 'device_batch'),
    [
        (64, 64, 1, 1, 64),
        (64, 63, 1, 2, 32),
        (64, 32, 2, 1, 32),
        (64, 31, 2, 2, 16),
        (64, 1000, 4, 1, 16),
        (60, 16, 1, 4, 15),
        (60, 16, 2, 2, 15),
        (60, 7, 2, 5, 6),
        (12, 4, 3, 1, 4),
        (12, 3, 3, 2, 2),
        (26, 12, 2, 13, 1),
        (13, 12, 1, 13, 1),
        (4096, 100, 8, 8, 64),
    ],
)
def test_automatic_accumulation_is_the_fewest_passes_that_fit(
    tiny, batch_size, limit, processes, passes, device_batch
):
    plan = Plan.of(
        tiny(batch_size=batch_size, accumulate='auto', max_device_batch=limit), 5000, processes
    )
    assert (plan.accumulate, plan.device_batch, plan.micro_batch) == (
        passes,
        device_batch,
        batch_size // passes,
    )
    assert (
        plan.device_batch * plan.processes * plan.accumulate == batch_size
        and plan.device_batch <= limit
    )
    assert not [
        a
        for a in range(1, passes)
        if batch_size % (a * processes) == 0 and batch_size // (a * processes) <= limit
    ]
    given = (
        Plan.of(tiny(batch_size=batch_size, accumulate=passes), 5000, processes)
        if batch_size // passes > 1
        else plan
    )
    assert (given.steps, given.peak_lr, given.accumulate) == (
        plan.steps,
        plan.peak_lr,
        plan.accumulate,
    )


def test_passes_of_one_image_get_a_sentence_when_the_batch_is_prime(tiny):
    settings = tiny(batch_size=13, accumulate='auto', max_device_batch=12)
    with pytest.raises(
        ConfigError, match='at least 2, and batch_size=13 with accumulate=auto gives 1'
    ):
        build_method(settings, microbatch_images=Plan.of(settings, 140).micro_batch)
    build_method(settings)  # nobody knows yet how many processes there will be


@pytest.mark.parametrize(
    ('changes', 'processes', 'sentence'),
    [
        (
            dict(batch_size=20),
            3,
            'batch_size=20 cannot be shared out evenly over 3 processes; make it a multiple of '
            'them',
        ),
        (
            dict(batch_size=20, accumulate='auto', max_device_batch=20),
            8,
            'batch_size=20 cannot be shared out evenly over 8 processes;',
        ),
        (
            dict(batch_size=20, accumulate=4),
            2,
            'over 2 processes x accumulate=4; make it a multiple of 8',
        ),
        (dict(batch_size=2), 4, 'batch_size=2 cannot be shared out evenly over 4 processes'),
    ],
)
def test_a_batch_that_cannot_be_shared_out_evenly(tiny, changes, processes, sentence):
    with pytest.raises(ConfigError, match=sentence):
        Plan.of(tiny(**changes), 140, processes)


def words(settings, processes) -> list[str]:
    plan = Plan.of(settings, 140, processes)
    method = build_method(settings, microbatch_images=plan.micro_batch)
    lines = describe_plan(
        settings, plan, method, build_optimizer(settings, plan, method).param_groups
    ).splitlines()
    assert max(map(len, lines)) < 200
    start = next(i for i, line in enumerate(lines) if line.startswith('  batch '))
    end = next(i for i, line in enumerate(lines) if line.startswith('  steps '))
    return [line[12:] for line in lines[start:end]]


BACKBONE = dict(name='resnet18', stem='cifar', width=0.125, layers=[1, 1, 1, 1])
BYOL = dict(type='BYOL', backbone=BACKBONE, hidden_dim=32, proj_dim=16)
SIMCLR = dict(type='SimCLR', backbone=BACKBONE, proj_dim=16)
MOCO = dict(type='MoCo', backbone=BACKBONE, hidden_dim=32, proj_dim=16, queue_size=40)
WHOLE, APART = (
    'a whole network on each process; BatchNorm over all processes',
    'BatchNorm over each process apart',
)


@pytest.mark.parametrize(
    ('method', 'changes', 'processes', 'expected'),
    [
        (BYOL, {}, 1, ['20 images per optimizer step']),
        (BYOL, {}, 2, ['20 images per optimizer step = 2 processes x 10', WHOLE]),
        (
            BYOL,
            dict(accumulate=2),
            1,
            [
                '20 images per optimizer step = 2 passes x 10',
                'accumulation is not the same as one pass: BatchNorm see 10 of 20 images',
            ],
        ),
        (
            BYOL,
            dict(accumulate='auto', max_device_batch=6),
            2,
            [
                '20 images per optimizer step = 2 passes x 2 processes x 5',
                WHOLE,
                'accumulation is not the same as one pass: BatchNorm see 10 of 20 images',
            ],
        ),
        (
            BYOL,
            dict(sync_batchnorm=False),
            2,
            [
                '20 images per optimizer step = 2 processes x 10',
                f'a whole network on each process; {APART}',
            ],
        ),
        (
            dict(BYOL, groups=4),
            dict(accumulate=5),
            2,
            [
                '20 images per optimizer step = 5 passes x 2 processes x 2',
                'a whole network on each process',
                'accumulation equals one pass',
            ],
        ),
        (
            BYOL,
            dict(parallel=dict(strategy='fsdp')),
            2,
            [
                '20 images per optimizer step = 2 processes x 10',
                'parameters and optimizer state shared out; BatchNorm over all processes',
            ],
        ),
        (
            SIMCLR,
            dict(accumulate=2),
            1,
            [
                '20 images per optimizer step = 2 passes x 10',
                'accumulation is not the same as one pass: negatives and BatchNorm see 10 of 20 '
                'images',
            ],
        ),
        (
            MOCO,
            dict(accumulate=2),
            2,
            [
                '20 images per optimizer step = 2 passes x 2 processes x 5',
                f'a whole network on each process; {APART}',
                'accumulation is not the same as one pass: BatchNorm see 10 of 20 images',
            ],
        ),
        (
            MOCO,
            dict(sync_batchnorm=True),
            2,
            ['20 images per optimizer step = 2 processes x 10', WHOLE],
        ),
    ],
)
def test_the_plan_says_what_each_pass_and_process_sees(tiny, method, changes, processes, expected):
    assert words(tiny(method=method, optimizer=dict(type='SGD'), **changes), processes) == expected


@pytest.mark.parametrize(
    ('changes', 'sentence'),
    [
        (
            dict(accumulate='fast'),
            "accumulate='fast', but it must be a whole number of at least 1, or 'auto'",
        ),
        (dict(accumulate=0), 'accumulate=0, but it must be a whole number of at least 1'),
        (dict(accumulate=-2), 'accumulate=-2, but'),
        (dict(accumulate=2.0), 'accumulate=2.0 is of type float'),
        (dict(accumulate=True), 'accumulate=True is of type bool'),
        (dict(accumulate=3), 'accumulate=3, but it must be a divisor of batch_size=20'),
        (dict(accumulate=20), 'small enough for two images per pass'),
        (
            dict(accumulate='auto'),
            "max_device_batch=None, but it must be a number of images with accumulate='auto'",
        ),
        (dict(max_device_batch=8), 'max_device_batch=8, but it must be None with accumulate=1'),
        (
            dict(accumulate='auto', max_device_batch=0),
            'max_device_batch=0, but it must be a whole number of at least 1',
        ),
        (dict(accumulate='auto', max_device_batch=8.5), 'max_device_batch=8.5 is of type float'),
        (
            dict(parallel=dict(strategy='dp')),
            "parallel.strategy='dp', but it must be 'ddp' or 'fsdp'",
        ),
        (dict(parallel=dict(timeout=0)), 'parallel.timeout=0, but it must be seconds above 0'),
        (dict(parallel=dict(timeout='1h')), "parallel.timeout='1h' is of type str"),
        (dict(parallel=dict(timeout=float('inf'))), 'parallel.timeout=inf is not a finite number'),
        (
            dict(parallel=dict(stategy='ddp')),
            "parallel.stategy is not a config key: did you mean 'strategy'",
        ),
        (dict(parallel='fsdp'), "parallel='fsdp', but it must be dict"),
        (dict(sync_batchnorm='yes'), "sync_batchnorm='yes' is of type str"),
        (dict(sync_batchnorm=1), 'sync_batchnorm=1 is of type int'),
        (
            dict(checkpoint=dict(keep_every=0)),
            'checkpoint.keep_every=0, but it must be a number above 0, or None',
        ),
        (dict(checkpoint=dict(keep_every=-1)), 'checkpoint.keep_every=-1'),
        (dict(checkpoint=dict(keep_every='all')), 'is of type str'),
    ],
)
def test_mistakes_in_settings_of_processes_and_passes_get_a_sentence(tiny, changes, sentence):
    with pytest.raises(ConfigError, match=sentence):
        tiny(**changes)
