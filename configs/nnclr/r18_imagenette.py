"""NNCLR, ResNet-18, Imagenette at 128 px (Dwibedi et al. 2021, arXiv 2104.14548).

    python tools/train.py configs/nnclr/r18_imagenette.py

configs/_base_/imagenette.py says where the photographs come from.

Source: lightly (lightly-ai/lightly), docs/source/getting_started/benchmarks/imagenette_benchmark.py
(commit 32c2b47), whose table is of batches of 256; heads: lightly/models/modules/heads.py
(0190899); views: lightly/transforms/simclr_transform.py (013dec2).
Differences: lightly's loss also repels the first views of all images from each other, and likewise
the second views. The negatives come from the images of one pass, so keep accumulate=1.

Cost: 213 minutes on one A6000 (lightly). Ours: not measured.
Accuracy: 88.4 % (lightly, k-NN, best of 800 epochs). Ours: not measured.
"""

_base_ = '../_base_/imagenette.py'

method = dict(
    type='NNCLR',
    backbone=dict(name='resnet18'),
    proj_hidden=2048,
    proj_dim=256,
    pred_hidden=4096,
    temperature=0.5,  # lightly: the default of its NTXentLoss
    queue_size=4096,
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
