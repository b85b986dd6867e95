"""A value that a method cannot work with raises ConfigError, before any data is read."""

import pytest

from ssl_zoo.build import build_method
from ssl_zoo.errors import ConfigError
from ssl_zoo.validation import check_positive, check_unit_interval

pytestmark = pytest.mark.quick

BACKBONE = dict(name='resnet18', stem='cifar', width=0.125, layers=[1, 1, 1, 1])
VIEW = dict(size=20)


@pytest.mark.parametrize(
    ('method', 'sentence'),
    [
        (dict(type='SimCLR', temperature=0), 'temperature=0, but it must be a number above 0'),
        (dict(type='SimCLR', proj_layers=0), 'an MLP of widths 128: it needs at least one layer'),
        (dict(type='BYOL', hidden_dim=-5), 'an MLP of widths 64 - -5 - 256'),
        (dict(type='BYOL', base_ema=1.5), 'base_ema=1.5, but it must be a number from 0 to 1'),
        (dict(type='BYOL', groups=3), 'GroupNorm of 3 groups does not fit 8 channels'),
        (dict(type='BYOL', groups=0.5), 'groups=0.5, but it must be a whole number'),
        (dict(type='BYOLAblation', target='emma'), "target='emma': did you mean 'ema'"),
        (dict(type='BYOLAblation', negatives=1, normalise='layer'), "normalise must be 'l2'"),
        (dict(type='MoCo', queue_size=0), 'a queue of 0 keys'),
        (
            dict(type='MoCo', queue_size=16, bn_splits=3),
            'needs a multiple of 3 images in each pass, at least 6, and batch_size=20 '
            'with accumulate=1',
        ),
        (
            dict(type='MoCo', queue_size=16, bn_splits=0),
            'bn_splits=0, but it must be a whole number of at least 1',
        ),
        (
            dict(type='MoCo', queue_size=16, decay=-1),
            'decay=-1, but it must be a number from 0 to 1',
        ),
        (
            dict(type='WMSE', proj_dim=4, whiten_size=4),
            'whiten_size=4, but a covariance of 4 dimensions needs more images',
        ),
        (dict(type='WMSE', proj_dim=4, whiten_size=8), 'needs a multiple of 8 images in each pass'),
        (
            dict(type='DINO', prototypes=8, teacher_temperature='warm'),
            "teacher_temperature='warm', but it must be a number above 0",
        ),
        (dict(type='SwAV', prototypes=0), 'prototypes=0, but it must be a number above 0'),
        (dict(type='MoCo', queue_size=16, bn_splits=20), 'at least 40, and batch_size=20'),
        (
            dict(type='SwAV', prototypes=8, iterations=1.5),
            'iterations=1.5, but it must be a whole number',
        ),
        (
            dict(type='SwAV', prototypes=8, queue_from_epoch='x'),
            "queue_from_epoch='x', but it must be a number",
        ),
        (
            dict(type='BarlowTwins', proj_dim=8, lambd=-1),
            'lambd=-1, but it must be a number above 0',
        ),
        (dict(type='BYOL', groups=0), 'groups=0, but it must be a whole number'),
        (dict(type='MYOW', k=1.5), 'k=1.5, but it must be a whole number'),
        (dict(type='MYOW', k=20), 'at least 21, and batch_size=20'),
        (
            dict(type='MYOW', from_epoch=5, full_epoch=5),
            'full_epoch=5, but it must be after from_epoch=5',
        ),
    ],
)
def test_values(tiny, method, sentence):
    with pytest.raises(ConfigError, match=sentence):
        build_method(
            tiny(
                method=dict(method, backbone=BACKBONE),
                views=[VIEW] * (4 if method['type'] == 'MYOW' else 2),
            )
        )


def test_a_vit_of_another_size(tiny):
    vit = dict(name='vit_tiny_patch16_224')
    with pytest.raises(
        ConfigError,
        match='vit_tiny_patch16_224 cannot take views of 20 x 20 px .*; '
        'give the backbone img_size=20',
    ):
        build_method(
            tiny(
                method=dict(type='SimSiam', backbone=vit, proj_dim=8, pred_hidden=8),
                views=[VIEW] * 2,
            )
        )
    build_method(
        tiny(
            method=dict(type='SimSiam', backbone=dict(vit, img_size=32), proj_dim=8, pred_hidden=8),
            views=[dict(size=32)] * 2,
        )
    )


def test_projections_that_cannot_be_whitened():
    import torch

    from ssl_zoo.methods.w_mse import whiten

    with pytest.raises(
        FloatingPointError, match='16 projections do not span 4 dimensions. Raise method.eps'
    ):
        whiten(torch.ones(16, 4))
    assert whiten(torch.full((16, 4), torch.nan)).isnan().all()
    assert whiten(torch.ones(16, 4), eps=0.1).isfinite().all()


@pytest.mark.parametrize(
    ('name', 'views', 'sentence'),
    [
        ('SimCLR', 3, "views='3 views', but it must be 2 views for SimCLR"),
        ('MYOW', 2, 'it must be 4 views for MYOW'),
        ('SwAV', 1, 'at least 2 views for SwAV'),
        ('DINO', 1, 'at least 2 views for DINO'),
        ('WMSE', 1, 'at least 2 views for WMSE'),
    ],
)
def test_numbers_of_views(tiny, name, views, sentence):
    with pytest.raises(ConfigError, match=sentence):
        tiny(method=dict(type=name, backbone=BACKBONE), views=[VIEW] * views)


def test_more_neighbours_than_there_are_images():
    import torch

    from ssl_zoo.methods.myow import mine

    assert mine(torch.randn(4, 3), torch.randn(4, 3), 3).shape == (4,)
    with pytest.raises(ConfigError, match='k=4 neighbours, but a pool of 4 images has 3 others'):
        mine(torch.randn(4, 3), torch.randn(4, 3), 4)


def test_numbers():
    check_positive(a=1, b=0.1)
    check_unit_interval(a=0, b=1)
    for check, value in (
        (check_positive, 0),
        (check_positive, True),
        (check_positive, float('nan')),
        (check_unit_interval, -0.1),
        (check_unit_interval, None),
    ):
        with pytest.raises(ConfigError, match=f'x={value}, but it must be a number'):
            check(x=value)
