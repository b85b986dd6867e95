"""Every config loads, builds, fits its data, has its header and prints its plan."""

import ast
import re
from pathlib import Path

import pytest
import torch

from ssl_zoo.backbones import build_backbone
from ssl_zoo.build import build_method
from ssl_zoo.config.loading import load_config
from ssl_zoo.engine.describe_plan import describe_plan
from ssl_zoo.engine.optim_wrapper import build_optimizer
from ssl_zoo.engine.plan import Plan
from ssl_zoo.engine.target_renewals import target_renewals
from ssl_zoo.registry import SOURCES
from ssl_zoo.validation import check_arguments

CONFIGS = sorted(
    p
    for p in (Path(__file__).parents[1] / 'configs').glob('*/*.py')
    if p.parent.name not in ('_base_', 'studies')
)


@pytest.fixture(params=CONFIGS, ids=lambda p: f'{p.parent.name}/{p.name}')
def path(request):
    return request.param


def test_builds_and_prints_its_plan(path):
    settings = load_config(path)
    for source in (settings.data.train, settings.data.test):
        cls = SOURCES.find(source['type'])
        check_arguments(
            cls.__init__,
            ['self', *(k for k in source if k not in ('type', 'limit'))],
            source['type'],
        )
    plan = Plan.of(settings, settings.data.expected_images or 1000)
    with torch.device('meta'):  # shapes without the memory of 250 M parameters
        method = build_method(plan.settings)
        optimizer = build_optimizer(plan.settings, plan, method)
    text = describe_plan(plan.settings, plan, method, optimizer.param_groups)
    for words in (settings.method['type'], f'{plan.steps:,}', 'warm-up', 'weight decay', 'view 2'):
        assert words in text


def test_header_says_what_it_is_how_to_run_it_what_it_costs_and_reaches(path):
    header = ast.get_docstring(ast.parse(path.read_text()))
    tool = 'speedrun' if path.parent.name == 'speedrun' else 'train'
    assert f'python tools/{tool}.py configs/{path.parent.name}/{path.name}' in header
    assert re.search('^Cost[:,]', header, re.M) and re.search('^Accuracy[:,]', header, re.M)


def test_header_names_the_source_of_the_recipe(path):
    header = ast.get_docstring(ast.parse(path.read_text()))
    if path.name.startswith('digits'):  # hyper-parameters of our own
        assert 'Source:' not in header
    else:
        assert re.search('^Source: ', header, re.M)


def test_stands_on_one_base_at_most(path):
    bases = [line for line in path.read_text().splitlines() if line.startswith('_base_')]
    assert len(bases) == 1
    base = path.parent / ast.literal_eval(bases[0].split('=', 1)[1].strip())
    assert base.is_file() and '_base_ =' not in base.read_text()


def test_byols_imagenet_recipe_is_the_papers(root):
    settings = load_config(root / 'configs/byol/r50_imagenet.py')
    plan = Plan.of(settings, 1281167)
    assert (plan.steps, plan.warmup_steps, plan.peak_lr) == (312784, 3127, pytest.approx(3.2))
    assert (settings.weight_decay, settings.method['base_ema']) == (1.5e-6, 0.996)
    one, two = settings.build_views()
    assert (one.blur_p, one.solarize_p, two.blur_p, two.solarize_p) == (1.0, 0.0, 0.1, 0.2)
    for view in (one, two):
        assert (view.size, view.crop, view.ratio) == (224, (0.08, 1.0), (3 / 4, 4 / 3))
        assert (view.interpolation, view.flip_p) == ('bicubic', 0.5)
        assert (view.jitter, view.jitter_p) == ((0.4, 0.4, 0.2, 0.1), 0.8)
        assert (view.gray_p, view.blur_sigma, view.kernel) == (0.2, (0.1, 2.0), 23)


def test_the_wide_recipe_is_the_same_but_for_its_network(root):
    """Its last scales start at 1, as for the paper's numbers (README of the official code)."""
    r50 = load_config(root / 'configs/byol/r50_imagenet.py').to_builtin()
    wide = load_config(root / 'configs/byol/r200w2_imagenet.py').to_builtin()
    assert r50['method'].pop('backbone') == dict(name='resnet50')
    assert wide['method'].pop('backbone') == dict(name='resnet200', width=2, zero_init_last=False)
    assert r50 == wide


def rows_of_byols_tables() -> list[str]:
    """The options in the tables of configs/byol/README.md."""
    text = (Path(__file__).parents[1] / 'configs/byol/README.md').read_text()
    return sorted(
        {
            cell
            for line in text.splitlines()
            if line.startswith('|')
            for cell in re.findall(r'\| `([^`]+)` \|', line)
        }
    )


@pytest.mark.long
@pytest.mark.parametrize('options', rows_of_byols_tables())
def test_every_row_of_byols_ablation_tables_builds(options, root):
    settings = load_config(root / 'configs/byol/r50_imagenet.py', options.split())
    plan = Plan.of(settings, 1281167)
    with torch.device('meta'):
        method = build_method(settings)
        groups = build_optimizer(settings, plan, method).param_groups
    assert describe_plan(settings, plan, method, groups)
    if 'epochs=300' in options:
        assert (plan.steps, plan.batch_size) == (93835, 4096)


def test_byols_ablation_tables_have_all_their_rows():
    assert len(rows_of_byols_tables()) >= 65


@pytest.mark.parametrize(
    ('config', 'steps', 'peak', 'facts'),
    [
        (
            'moco/r50_imagenet',
            1000911,
            0.03,
            {'method.temperature': 0.2, 'decay_norm_and_bias': True, 'schedule.per_epoch': True},
        ),
        (
            'moco/v1_r50_imagenet',
            1000911,
            0.03,
            {
                'method.temperature': 0.07,
                'method.hidden_dim': None,
                'schedule.milestones': (120, 160),
            },
        ),
        (
            'mocov3/vit_s16_imagenet',
            93835,
            2.4e-3,
            {'method.temperature': 0.2, 'weight_decay': 0.1, 'warmup_epochs': 40},
        ),
        (
            'simsiam/r50_imagenet',
            250227,
            0.1,
            {'weight_decay': 1e-4, 'decay_norm_and_bias': True, 'schedule.per_epoch': True},
        ),
        (
            'barlow_twins/r50_imagenet',
            625569,
            1.6,
            {'norm_and_bias_lr': 0.024, 'schedule.end': 1e-3, 'method.lambd': 0.0051},
        ),
        ('vicreg/r50_imagenet', 625569, 1.6, {'schedule.end': 1e-3, 'weight_decay': 1e-6}),
        (
            'swav/r50_imagenet',
            250227,
            4.8,
            {'optimizer.larc': True, 'decay_norm_and_bias': True, 'schedule.end': 1e-3},
        ),
        (
            'simclr/r50_imagenet',
            312784,
            4.8,
            {'method.temperature': 0.1, 'optimizer.classic_momentum': True, 'data.mean': (0, 0, 0)},
        ),
        ('ressl/r50_imagenet', 1000911, 0.05, {'weight_decay': 1e-4, 'warmup_epochs': 5}),
    ],
)
def test_recipes_come_to_their_papers_numbers(config, steps, peak, facts, root):
    """Check epochs * 1281167 images // batch, the scaled learning rate, error-prone settings."""
    settings = load_config(root / f'configs/{config}.py')
    plan = Plan.of(settings, 1281167)
    assert (plan.steps, plan.peak_lr) == (steps, pytest.approx(peak))
    for key, value in facts.items():
        actual = settings.to_builtin()
        for name in key.split('.'):
            actual = actual[name]
        expected = list(value) if isinstance(value, tuple) else value
        assert actual == expected or actual == pytest.approx(value), key


SOLO_LARS = {
    'optimizer.type': 'LARS',
    'optimizer.trust_coefficient': 0.02,
    'optimizer.larc': True,
    'optimizer.clip_lr': True,
    'method.backbone.stem_padding': 2,
    'warmup_epochs': 10,
}


@pytest.mark.parametrize(
    ('config', 'steps', 'peak', 'renewals', 'facts'),
    [
        (
            'byol/r18_cifar10',
            195312,
            1.0,
            977,
            {**SOLO_LARS, 'weight_decay': 1e-5, 'method.base_ema': 0.99, 'schedule.start': 3e-5},
        ),
        (
            'byol/r18_cifar10_200ep',
            78125,
            0.06 / 4,  # lightly's loss has a quarter of our gradient
            391,
            {
                'optimizer.type': 'SGD',
                'weight_decay': 4 * 5e-4,
                'decay_norm_and_bias': True,
                'schedule.per_epoch': True,
                'method.hidden_dim': 1024,
            },
        ),
        ('byol/r18_cifar10_20ep', 7812, 1.0, 125, {'weight_decay': 1e-6}),
        (
            'mocov3/r18_cifar10',
            195312,
            0.3,
            977,
            {**SOLO_LARS, 'weight_decay': 1e-6, 'method.temperature': 0.2},
        ),
        (
            'vicreg/r18_cifar10',
            195312,
            0.3,
            None,
            {**SOLO_LARS, 'weight_decay': 1e-4, 'method.variance_weight': 50},
        ),
        (
            'moco/r18_cifar10',
            19531,
            0.06,
            195,
            {
                'method.hidden_dim': None,
                'method.queue_size': 4096,
                'method.temperature': 0.1,
                'method.bn_splits': 8,
                'weight_decay': 5e-4,
            },
        ),
        (
            'ressl/r18_cifar10',
            195312,
            0.05,
            1953,
            {'views.0.crop': (0.08, 1), 'views.1.crop': (0.08, 1), 'views.0.blur_kernel': 13},
        ),
        # The code of v1: weight decay and head from one commit.
        ('simclr/r18_cifar10', 97656, 2.0, None, {'weight_decay': 1e-6, 'method.proj_layers': 2}),
        # Our loss is twice lightly's.
        ('dcl/r18_cifar10', 78125, 0.24 / 2, None, {'weight_decay': 2 * 5e-4}),
        ('swav/r18_cifar10', 78125, 4e-3, None, {'views.0.jitter': (0.4, 0.4, 0.4, 0.1)}),
    ],
)
def test_cifar_recipes_come_to_their_sources_numbers(config, steps, peak, renewals, facts, root):
    _check_recipe(root / f'configs/{config}.py', 50000, steps, peak, renewals, facts)


def _check_recipe(path, images, steps, peak, renewals, facts):
    settings = load_config(path)
    plan = Plan.of(settings, images)
    assert (plan.steps, plan.peak_lr) == (steps, pytest.approx(peak))
    with torch.device('meta'):
        method = build_method(plan.settings)
    expected = None if renewals is None else pytest.approx(renewals, abs=0.6)
    assert target_renewals(method, plan.steps) == expected
    for key, value in facts.items():
        assert _value_at(settings.to_builtin(), key) == value, key


def _value_at(values: dict, key: str):
    """Return the value under a dotted key, None if the config leaves the last name out."""
    *names, last = key.split('.')
    for name in names:
        values = values[int(name)] if isinstance(values, list) else values[name]
    values = values.get(last)
    return tuple(values) if isinstance(values, list) else values


LIGHTLY_SGD = {
    'optimizer.type': 'SGD',
    'weight_decay': 5e-4,
    'decay_norm_and_bias': True,
    'schedule.per_epoch': True,
    'warmup_epochs': 0,
    'views.0.blur_p': 0.5,
    'views.0.jitter': (0.4, 0.4, 0.4, 0.1),
}
# Our loss is twice lightly's.
HALF_LR = {**LIGHTLY_SGD, 'weight_decay': 2 * 5e-4}
BYOL_VIEWS = {
    'views.0.blur_p': 1.0,
    'views.1.blur_p': 0.1,
    'views.1.solarize_p': 0.2,
    'views.1.jitter': (0.4, 0.4, 0.2, 0.1),
}
LIGHTLY_BYOL = {**LIGHTLY_SGD, **BYOL_VIEWS, 'views.0.jitter': (0.4, 0.4, 0.2, 0.1)}
SOLO_IMAGENET100 = {'warmup_epochs': 10, 'schedule.start': 1e-4}


@pytest.mark.parametrize(
    ('config', 'steps', 'peak', 'renewals', 'facts'),
    [
        (
            'byol/r18_imagenette',
            36988,
            2.0,
            74,
            {
                **BYOL_VIEWS,
                'optimizer.type': 'LARS',
                'optimizer.trust_coefficient': 1e-3,
                'weight_decay': 1e-6,
                'warmup_epochs': 10,
                'method.hidden_dim': 4096,
                'method.base_ema': 0.996,
                'views.0.crop': (0.08, 1),
            },
        ),
        (
            'byol/vit_s16_imagenette',
            7397,
            5e-4,
            125,
            {**BYOL_VIEWS, 'optimizer.type': 'AdamW', 'weight_decay': 0.1, 'views.0.size': 224},
        ),
        # MYOW halves BYOL's loss.
        (
            'myow/r18_imagenette',
            36988,
            2.0,
            74,
            {**BYOL_VIEWS, 'norm_and_bias_lr': 2, 'weight_decay': 1e-6 / 2},
        ),
        (
            'mocov3/r18_imagenette',
            36988,
            0.3,
            185,
            {
                **SOLO_IMAGENET100,
                **BYOL_VIEWS,
                'optimizer.clip_lr': True,
                'weight_decay': 1e-6,
                'method.temperature': 0.2,
            },
        ),
        (
            'ressl/r18_imagenette',
            36988,
            0.3,
            370,
            {
                **SOLO_IMAGENET100,
                'weight_decay': 1e-4,
                'views.0.crop': (0.08, 1),
                'views.1.crop': (0.08, 1),
                'views.1.blur_p': None,
                'method.student_temperature': 0.1,
                'method.teacher_temperature': 0.04,
            },
        ),
        (
            'w_mse/r18_imagenette',
            36988,
            2e-3,
            None,
            {
                'optimizer.type': 'Adam',
                'method.whiten_size': 256,
                'method.proj_dim': 128,
                'views.3.blur_p': None,
                'schedule.milestones': (950, 975),
            },
        ),
        ('simclr/r18_imagenette', 29590, 0.06 / 2, None, {**HALF_LR, 'method.temperature': 0.5}),
        ('dcl/r18_imagenette', 29590, 0.06 / 2, None, {**HALF_LR, 'method.temperature': 0.1}),
        ('dcl/dclw_r18_imagenette', 29590, 0.06 / 2, None, {**HALF_LR, 'method.sigma': 0.5}),
        (
            'moco/r18_imagenette',
            29590,
            0.06,
            296,
            {**LIGHTLY_SGD, 'method.hidden_dim': 2048, 'method.queue_size': 4096},
        ),
        (
            'nnclr/r18_imagenette',
            29590,
            0.06,
            None,
            {**LIGHTLY_SGD, 'method.queue_size': 4096, 'method.temperature': 0.5},
        ),
        (
            'simsiam/r18_imagenette',
            29590,
            0.06,
            None,
            {**LIGHTLY_SGD, 'method.proj_layers': 3, 'views.1.crop': (0.2, 1)},
        ),
        (
            'barlow_twins/r18_imagenette',
            29590,
            0.06,
            None,
            {**LIGHTLY_BYOL, 'method.lambd': 5e-3, 'method.proj_dim': 2048},
        ),
        (
            'vicreg/r18_imagenette',
            29590,
            0.3,
            None,
            {
                'optimizer.larc': True,
                'optimizer.clip_lr': None,
                'weight_decay': 1e-4,
                'decay_norm_and_bias': True,
                'warmup_epochs': 40,
                'views.1.solarize_p': 0.1,
                'method.variance_weight': 25,
            },
        ),
        (
            'tico/r18_imagenette',
            29590,
            0.3,
            59,
            {**BYOL_VIEWS, 'weight_decay': 1e-4, 'warmup_epochs': 40, 'method.rho': 20},
        ),
        (
            'swav/r18_imagenette',
            29590,
            1e-3,
            None,
            {
                'optimizer.type': 'Adam',
                'weight_decay': 1e-6,
                'method.prototypes': 3000,
                'views.1.crop': (0.14, 1),
                'views.7.size': 64,
                'views.7.crop': (0.05, 0.14),
            },
        ),
        (
            'dino/r18_imagenette',
            29590,
            0.06,
            148,
            {
                'weight_decay': 5e-4,
                'method.prototypes': 2048,
                'views.1.crop': (0.4, 1),
                'views.1.solarize_p': 0.2,
                'views.7.size': 64,
                'views.7.crop': (0.05, 0.4),
            },
        ),
    ],
)
def test_imagenette_recipes_come_to_their_sources_numbers(
    config, steps, peak, renewals, facts, root
):
    path = root / f'configs/{config}.py'
    _check_recipe(path, 9469, steps, peak, renewals, facts)


IMAGENETTE = [path for path in CONFIGS if path.name.endswith('_imagenette.py')]


def test_every_method_has_a_recipe_for_imagenette():
    with_one = {path.parent.name for path in IMAGENETTE if path.name == 'r18_imagenette.py'}
    assert with_one == {path.parent.name for path in CONFIGS} - {'speedrun'}


@pytest.mark.parametrize('path', IMAGENETTE, ids=lambda p: f'{p.parent.name}/{p.name}')
def test_imagenette_is_evaluated_as_by_the_source_of_the_recipe(path):
    """The authors of BYOL keep the centre 4/5 of the short side, lightly all of it."""
    settings = load_config(path)
    expected = {'byol/r18': (128, 160), 'byol/vit_s16': (224, 256), 'myow/r18': (128, 160)}
    name = f'{path.parent.name}/{path.stem.removesuffix("_imagenette")}'
    assert settings.eval_geometry() == expected.get(name, (128, 128))
    assert settings.batch_size == 256
    assert (settings.data.expected_images, settings.data.val) == (9469, 1000)
    assert settings.data.train_on_val


@pytest.mark.parametrize(
    ('config', 'scale'),
    [
        ('byol/r50_imagenet', 0),  # released code
        ('byol/r200w2_imagenet', 1),  # README of the code: the paper's numbers
        ('barlow_twins/r50_imagenet', 0),  # main.py
        ('vicreg/r50_imagenet', 0),  # main_vicreg.py
        ('ressl/r50_imagenet', 1),  # network/resnet.py
        ('w_mse/r50_imagenet', 1),  # torchvision's default
        ('tico/r50_imagenet', 1),  # lightly: torchvision's default
        ('dcl/r50_imagenet', 1),  # lightly: torchvision's default
        ('dcl/dclw_r50_imagenet', 1),
        ('swav/r50_imagenet', 1),  # src/resnet50.py
        ('moco/r50_imagenet', 1),  # torchvision's default
    ],
)
def test_the_last_scale_of_each_block_starts_as_in_the_code_of_the_source(config, scale, root):
    backbone = dict(load_config(root / f'configs/{config}.py').method['backbone'])
    backbone.update(width=0.125, layers=[1, 1, 1, 1])  # as the recipe's, but small
    network = build_backbone(**backbone)
    last = [block.bn3.weight for block in network.modules() if hasattr(block, 'bn3')]
    assert len(last) == 4 and all(bool((weight == scale).all()) for weight in last)
