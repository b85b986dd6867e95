"""SwAV, ResNet-18 with a CIFAR stem, CIFAR-10 (Caron et al. 2020, arXiv 2006.09882).

    python tools/train.py configs/swav/r18_cifar10.py

--cfg-options data.train.download=True data.test.download=True fetches the images.

Source: lightly (lightly-ai/lightly), docs/source/getting_started/benchmarks/cifar10_benchmark.py:
model and optimizer as in commit e93a49d, views as in later versions (cj_strength=0.5): two crops of
32 px, 512 prototypes that are never frozen, Adam. The paper has no CIFAR recipe. Sinkhorn's codes
are computed from the images of one pass, so keep accumulate=1.

Cost: not measured by us.
Accuracy, for comparison: lightly 88.4 % (k-NN, best of 800 epochs); solo-learn 89.17 % (online
probe, 1000 epochs, its own recipe). Ours: not measured.
"""

_base_ = '../_base_/cifar10.py'

method = dict(
    type='SwAV',
    backbone=dict(name='resnet18', stem='cifar'),
    hidden_dim=512,
    proj_dim=128,
    prototypes=512,
    temperature=0.1,
    eps=0.05,
    iterations=3,
    frozen_epochs=0,
)

_view = dict(
    size=32,
    crop=(0.14, 1.0),
    interpolation='bilinear',
    flip_p=0.5,
    jitter=(0.4, 0.4, 0.4, 0.1),
    jitter_p=0.8,
    gray_p=0.2,
)
views = [_view, _view]
data = dict(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))  # lightly: ImageNet's

optimizer = dict(type='Adam')
batch_size = 512
epochs = 800
base_lr = 2e-3  # lightly: 1e-3 per 128 images
weight_decay = 1e-6
decay_norm_and_bias = True
schedule = dict(per_epoch=True)
precision = 'bf16'
channels_last = True
