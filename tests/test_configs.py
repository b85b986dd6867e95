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
    settings = load_config(root / f'configs/{config}.py')
    plan = Plan.of(settings, 50000)
    assert (plan.steps, plan.peak_lr) == (steps, pytest.approx(peak))
    with torch.device('meta'):
        method = build_method(plan.settings)
    expected = None if renewals is None else pytest.approx(renewals, abs=0.6)
    assert target_renewals(method, plan.steps) == expected
    for key, value in facts.items():
        assert _value_at(settings.to_builtin(), key) == value, key


def _value_at(values: dict, key: str):
    for name in key.split('.'):
        values = values[int(name)] if isinstance(values, list) else values[name]
    return tuple(values) if isinstance(values, list) else values


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
