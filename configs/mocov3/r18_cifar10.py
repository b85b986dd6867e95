"""MoCo v3, ResNet-18 with a CIFAR stem, CIFAR-10 (Chen, Xie, He 2021, arXiv 2104.02057).

    python tools/train.py configs/mocov3/r18_cifar10.py

--cfg-options data.train.download=True data.test.download=True fetches the images.

The paper has no CIFAR recipe. Heads, temperature, batch, epochs and views are solo-learn's, whose
LARS differs from ours (trust 0.02, a clipped learning rate). Optimizer and decay are therefore
those of BYOL's authors for a small data set (README of the official code, Imagenette, batch 256),
as in configs/byol/r18_cifar10.py.

Cost: not measured by us.
Accuracy, for comparison: solo-learn 93.10 % (online probe, 1000 epochs, its own optimizer). Ours:
not measured.
"""

_base_ = '../_base_/cifar10.py'

method = dict(
    type='MoCoV3',
    backbone=dict(name='resnet18', stem='cifar'),
    hidden_dim=4096,
    proj_dim=256,
    proj_layers=2,
    temperature=0.2,
    base_ema=0.996,
)

_both = dict(
    size=32,
    crop=(0.08, 1.0),
    flip_p=0.5,
    jitter=(0.4, 0.4, 0.2, 0.1),
    jitter_p=0.8,
    gray_p=0.2,
)
views = [
    dict(**_both, solarize_p=0.0),  # solo-learn: BYOL's without blur
    dict(**_both, solarize_p=0.2),
]

optimizer = dict(type='LARS', momentum=0.9, trust_coefficient=1e-3)
batch_size = 256
epochs = 1000
base_lr = 2.0
weight_decay = 1e-6
warmup_epochs = 10
precision = 'bf16'
channels_last = True
