"""BYOL, ResNet-18 with a CIFAR stem, CIFAR-10.

    python tools/train.py configs/byol/r18_cifar10.py

--cfg-options data.train.download=True data.test.download=True fetches the images.

The paper has no CIFAR recipe. This is the authors' own small-scale recipe (README of the official
code, Imagenette, ResNet-18: batch 256, base lr 2.0, weight decay 1e-6, decay 0.996, 1000 epochs),
but with solo-learn's crops of 32 px and without blur.

Cost: not measured by us. docs/results.md has a version shortened to 15 minutes on two CPU cores,
with its figures.
Accuracy: not measured by us. For comparison, both with their own recipes: solo-learn 92.58 %
(online linear probe, 1000 epochs), lightly 91.0 % (k-NN, best of 800 epochs).
"""

_base_ = '../_base_/cifar10.py'

method = dict(
    type='BYOL',
    backbone=dict(name='resnet18', stem='cifar'),
    hidden_dim=4096,
    proj_dim=256,
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
views = [dict(**_both, solarize_p=0.0), dict(**_both, solarize_p=0.2)]

optimizer = dict(type='LARS', momentum=0.9, trust_coefficient=1e-3)
batch_size = 256
epochs = 1000
base_lr = 2.0
weight_decay = 1e-6
warmup_epochs = 10
precision = 'bf16'
channels_last = True
