"""VICReg, ResNet-18 with a CIFAR stem, CIFAR-10 (Bardes, Ponce, LeCun 2021, arXiv 2105.04906).

    python tools/train.py configs/vicreg/r18_cifar10.py

--cfg-options data.train.download=True data.test.download=True fetches the images.

The paper has no CIFAR recipe. Heads, batch, epochs and views are solo-learn's, whose variance term
has twice the weight of ours and whose LARS differs from ours (trust 0.02, a clipped learning rate).
Optimizer, learning rate and weight decay are therefore lightly's for Imagenette
(imagenette_benchmark.py), whose LARS is like the zoo's. Variance and covariance are computed from
the images of one pass, so keep accumulate=1.

Cost: not measured by us.
Accuracy, for comparison: solo-learn 92.07 % (online probe, 1000 epochs, its own optimizer). Ours:
not measured.
"""

_base_ = '../_base_/cifar10.py'

method = dict(
    type='VICReg',
    backbone=dict(name='resnet18', stem='cifar'),
    proj_dim=2048,
    invariance_weight=25.0,
    variance_weight=25.0,
    covariance_weight=1.0,
)

# solo-learn's.
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

optimizer = dict(type='LARS', momentum=0.9, trust_coefficient=1e-3)
batch_size = 256
epochs = 1000
base_lr = 0.3
weight_decay = 1e-4
warmup_epochs = 10  # solo-learn
precision = 'bf16'
channels_last = True
