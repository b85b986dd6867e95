"""VICReg, ResNet-18 with a CIFAR stem, CIFAR-10 (Bardes, Ponce, LeCun 2021, arXiv 2105.04906).

    python tools/train.py configs/vicreg/r18_cifar10.py

--cfg-options data.train.download=True data.test.download=True fetches the images.

Source: solo-learn (vturrisi/solo-learn), scripts/pretrain/cifar/vicreg.yaml (commit 1df0b89); stem
and defaults of the optimizer: solo/methods/base.py (c980e9e), solo/args/pretrain.py (07458e5),
solo/utils/lars.py (096530c). The paper has no CIFAR recipe. solo-learn adds the variance terms of
the two views (solo/losses/vicreg.py, 53e8139), and ours, as the authors' code, takes their mean, so
its weight of 25 is 50 here. Variance and covariance are computed from the images of one pass, so
keep accumulate=1.

Cost: not measured by us.
Accuracy: 92.07 % (solo-learn, online linear probe, 1000 epochs). Ours: not measured.
"""

_base_ = '../_base_/cifar10.py'

method = dict(
    type='VICReg',
    backbone=dict(name='resnet18', stem='cifar', stem_padding=2),
    proj_dim=2048,
    invariance_weight=25.0,
    variance_weight=50.0,  # solo-learn: 25 on a sum that we halve
    covariance_weight=1.0,
)

_view = dict(
    size=32,
    crop=(0.2, 1.0),
    flip_p=0.5,
    jitter=(0.4, 0.4, 0.2, 0.1),
    jitter_p=0.8,
    gray_p=0.2,
    solarize_p=0.1,
)
views = [_view, _view]

optimizer = dict(type='LARS', momentum=0.9, trust_coefficient=0.02, larc=True, clip_lr=True)
batch_size = 256
epochs = 1000
base_lr = 0.3
weight_decay = 1e-4
warmup_epochs = 10
schedule = dict(start=3e-5 / 0.3)
precision = 'bf16'
channels_last = True
