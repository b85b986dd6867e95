"""SwAV, ResNet-18, Imagenette at 128 px (Caron et al. 2020, arXiv 2006.09882).

    python tools/train.py configs/swav/r18_imagenette.py

configs/_base_/imagenette.py says where the photographs come from.

Source: lightly (lightly-ai/lightly), docs/source/getting_started/benchmarks/imagenette_benchmark.py
(commit 32c2b47), whose table is of batches of 256; views: lightly/transforms/swav_transform.py
(0c1e00c), two crops of 128 px and six of 64 px.
Differences: the prototypes of lightly have a bias (heads.py, 0190899). Sinkhorn's codes are
computed from the images of one pass, so keep accumulate=1.

Cost: 283 minutes on one A6000 (lightly). Ours: not measured.
Accuracy: 90.2 % (lightly, k-NN, best of 800 epochs). With a queue 89.0 %. Ours: not measured.
"""

_base_ = '../_base_/imagenette.py'

method = dict(
    type='SwAV',
    backbone=dict(name='resnet18'),
    hidden_dim=2048,
    proj_dim=128,
    prototypes=3000,
    temperature=0.1,
    eps=0.05,
    iterations=3,
    frozen_epochs=0,
)

_both = dict(
    interpolation='bilinear',
    flip_p=0.5,
    jitter=(0.4, 0.4, 0.4, 0.1),
    jitter_p=0.8,
    gray_p=0.2,
    blur_p=0.5,
    blur_kernel=13,  # lightly blurs with PIL, which does not cut the Gaussian off
)
_large = dict(size=128, crop=(0.14, 1.0), **_both)
_small = dict(size=64, crop=(0.05, 0.14), **_both)
views = [_large, _large, *[_small] * 6]

optimizer = dict(type='Adam')
batch_size = 256
epochs = 800
base_lr = 1e-3
weight_decay = 1e-6
decay_norm_and_bias = True
schedule = dict(per_epoch=True)
precision = 'bf16'
channels_last = True
