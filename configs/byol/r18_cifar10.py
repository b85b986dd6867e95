"""BYOL, ResNet-18 with a CIFAR stem, CIFAR-10, about 1000 epochs.

    python tools/train.py configs/byol/r18_cifar10.py

--cfg-options data.train.download=True data.test.download=True fetches the images. Recipes for
other lengths: r18_cifar10_200ep.py and r18_cifar10_20ep.py.

Source: solo-learn (vturrisi/solo-learn), scripts/pretrain/cifar/byol.yaml (commit 6286947) with
augmentations/asymmetric.yaml (2432289); stem and defaults of the optimizer: solo/methods/base.py
(c980e9e), solo/args/pretrain.py (07458e5), solo/utils/lars.py (096530c). The paper has no CIFAR
recipe. In this LARS the learning rate limits the step of a tensor; the trust coefficient sets it.
Differences: solo-learn's target starts as a copy of the online network and its heads end with a
bias, see methods/byol.py; it trains in float16.

Cost: not measured by us.
Accuracy: 92.58 % (solo-learn, online linear probe, 1000 epochs). Ours: not measured.
"""

_base_ = '../_base_/cifar10.py'

method = dict(
    type='BYOL',
    backbone=dict(name='resnet18', stem='cifar', stem_padding=2),
    hidden_dim=4096,
    proj_dim=256,
    base_ema=0.99,
)

_both = dict(
    size=32,
    crop=(0.08, 1.0),
    flip_p=0.5,
    jitter=(0.4, 0.4, 0.2, 0.1),
    jitter_p=0.8,
    gray_p=0.2,
)
views = [dict(**_both, solarize_p=0.0), dict(**_both, solarize_p=0.2)]

optimizer = dict(type='LARS', momentum=0.9, trust_coefficient=0.02, larc=True, clip_lr=True)
batch_size = 256
epochs = 1000
base_lr = 1.0
weight_decay = 1e-5
warmup_epochs = 10
schedule = dict(start=3e-5)  # of the peak, which is 1.0
precision = 'bf16'
channels_last = True
