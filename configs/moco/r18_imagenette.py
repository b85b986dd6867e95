"""MoCo v2, ResNet-18, Imagenette at 128 px (Chen et al. 2020, arXiv 2003.04297).

    python tools/train.py configs/moco/r18_imagenette.py

configs/_base_/imagenette.py says where the photographs come from.

Source: lightly (lightly-ai/lightly), docs/source/getting_started/benchmarks/imagenette_benchmark.py
(commit 32c2b47), whose table is of batches of 256; views: lightly/transforms/simclr_transform.py
(013dec2).
Differences: lightly's loss is the mean of both directions, ours has one, as in the authors' code.
Both shuffle the images of the keys; on one process BatchNorm then still takes its statistics over
the same images, and method.bn_splits=8 would split them as 8 GPUs do.

Cost: 232 minutes on one A6000 (lightly). Ours: not measured.
Accuracy: 87.4 % (lightly, k-NN, best of 800 epochs). Ours: not measured.
"""

_base_ = '../_base_/imagenette.py'

method = dict(
    type='MoCo',
    backbone=dict(name='resnet18'),
    hidden_dim=2048,
    proj_dim=128,
    queue_size=4096,
    temperature=0.1,
    decay=0.99,
)

_view = dict(
    size=128,
    crop=(0.08, 1.0),
    interpolation='bilinear',
    flip_p=0.5,
    jitter=(0.4, 0.4, 0.4, 0.1),
    jitter_p=0.8,
    gray_p=0.2,
    blur_p=0.5,
)
views = [_view, _view]

optimizer = dict(type='SGD', momentum=0.9)
batch_size = 256
epochs = 800
base_lr = 0.06
weight_decay = 5e-4
decay_norm_and_bias = True
schedule = dict(per_epoch=True)
precision = 'bf16'
channels_last = True
