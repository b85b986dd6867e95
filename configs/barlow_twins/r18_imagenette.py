"""Barlow Twins, ResNet-18, Imagenette at 128 px (Zbontar et al. 2021, arXiv 2103.03230).

    python tools/train.py configs/barlow_twins/r18_imagenette.py

configs/_base_/imagenette.py says where the photographs come from.

Source: lightly (lightly-ai/lightly), docs/source/getting_started/benchmarks/imagenette_benchmark.py
(commit 32c2b47), whose table is of batches of 256; heads: lightly/models/modules/heads.py
(0190899); views: lightly/transforms/byol_transform.py (178d85e).
The correlation is computed from the images of one pass, so keep accumulate=1.

Cost: 299 minutes on one A6000 (lightly). Ours: not measured.
Accuracy: 85.2 % (lightly, k-NN, best of 800 epochs). Ours: not measured.
"""

_base_ = '../_base_/imagenette.py'

method = dict(
    type='BarlowTwins',
    backbone=dict(name='resnet18'),
    proj_dim=2048,
    lambd=5e-3,
)

_both = dict(
    size=128,
    crop=(0.08, 1.0),
    interpolation='bilinear',
    flip_p=0.5,
    jitter=(0.4, 0.4, 0.2, 0.1),
    jitter_p=0.8,
    gray_p=0.2,
)
views = [
    dict(**_both, blur_p=1.0, solarize_p=0.0),
    dict(**_both, blur_p=0.1, solarize_p=0.2),
]

optimizer = dict(type='SGD', momentum=0.9)
batch_size = 256
epochs = 800
base_lr = 0.06
weight_decay = 5e-4
decay_norm_and_bias = True
schedule = dict(per_epoch=True)
precision = 'bf16'
channels_last = True
