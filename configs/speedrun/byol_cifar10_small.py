"""BYOL in the race on a CPU: ResNet-18 at a tenth of the width.

python tools/speedrun.py configs/speedrun/byol_cifar10_small.py
"""

_base_ = '../_base_/cifar10.py'

method = dict(
    type='BYOL',
    backbone=dict(name='resnet18', stem='cifar', width=0.1),
    hidden_dim=512,
    proj_dim=128,
    base_ema='auto',
)

_view = dict(
    size=32,
    crop=(0.2, 1.0),
    interpolation='bilinear',
    flip_p=0.5,
    jitter=(0.4, 0.4, 0.4, 0.1),
    jitter_p=0.8,
    gray_p=0.1,
)
views = [_view, _view]
data = dict(val=None)

optimizer = dict(type='LARS', momentum=0.9, trust_coefficient=1e-3)
batch_size = 64
epochs = 5
base_lr = 4.0
weight_decay = 1e-6
warmup_epochs = 0.2
channels_last = True
online_eval = dict(every=0)
checkpoint = dict(every=1, keep=1)
hooks = [dict(type='Race', target=45.0, every=1)]
