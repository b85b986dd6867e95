"""MoCo v2, ResNet-18 with a CIFAR stem, CIFAR-10 (Chen et al. 2020, arXiv 2003.04297).

    python tools/train.py configs/moco/r18_cifar10.py

--cfg-options data.train.download=True data.test.download=True fetches the images.

The recipe of lightly's cifar10_benchmark.py, which follows the MoCo authors' CIFAR demo: split
BatchNorm, a fast key network, a small queue. Both use a symmetric loss, in which each view is the
query once; the zoo's loss is the paper's, one direction.

Cost: not measured by us.
Accuracy, for comparison: lightly 89.9 % (k-NN, best of 800 epochs); solo-learn 92.94 % (MoCo v2+,
online probe, 1000 epochs, its own recipe). Ours: not measured.
"""

_base_ = '../_base_/cifar10.py'

method = dict(
    type='MoCo',
    backbone=dict(name='resnet18', stem='cifar'),
    hidden_dim=512,
    proj_dim=128,
    queue_size=8192,  # lightly: 8192 for batches of 512, 4096 for 128
    temperature=0.1,
    decay=0.99,
    bn_splits=8,
)

_view = dict(
    size=32,
    crop=(0.08, 1.0),
    interpolation='bilinear',
    flip_p=0.5,
    jitter=(0.4, 0.4, 0.4, 0.1),
    jitter_p=0.8,
    gray_p=0.2,
)
views = [_view, _view]
data = dict(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))  # lightly: ImageNet's

optimizer = dict(type='SGD', momentum=0.9)
batch_size = 512
epochs = 800
base_lr = 0.12  # lightly: 0.06 per 128 images
weight_decay = 5e-4
decay_norm_and_bias = True
schedule = dict(per_epoch=True)
precision = 'bf16'
channels_last = True
