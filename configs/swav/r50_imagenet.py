"""SwAV, ResNet-50, ImageNet-1k, batches of 4096 (Caron et al. 2020, arXiv 2006.09882).

    python tools/train.py configs/swav/r50_imagenet.py
    python tools/train.py configs/swav/r50_imagenet.py --cfg-options epochs=200

Source: facebookresearch/swav, scripts/swav_800ep_pretrain.sh (commit 04b8f43) and
src/multicropdataset.py (9a2dc80), which blurs with PIL. Shorter runs change epochs alone.
Sinkhorn's codes are computed from the images of one pass: with accumulate=N on one GPU, from N
times fewer images, and the queue of bs256_r50_imagenet.py is needed.
Deviation: BatchNorm takes its statistics over all processes; the authors' took them over 8 GPUs,
512 images.

Cost: 64 GPUs at batch 4096 (authors' script). Time: not measured by us.
Accuracy, linear probe, top-1: 72.1 / 73.9 / 74.6 / 75.3 % at 100 / 200 / 400 / 800 epochs
(authors). Ours: not measured.
"""

_base_ = '../_base_/imagenet.py'

method = dict(
    type='SwAV',
    backbone=dict(name='resnet50', zero_init_last=False),  # official resnet50.py
    hidden_dim=2048,
    proj_dim=128,
    prototypes=3000,
    temperature=0.1,
    eps=0.05,
    iterations=3,
    frozen_epochs=1.0,  # 313 steps of 4096 images
)

_both = dict(
    interpolation='bilinear',
    flip_p=0.5,
    jitter=(0.8, 0.8, 0.8, 0.2),
    jitter_p=0.8,
    gray_p=0.2,
    blur_p=0.5,
)
_large = dict(size=224, crop=(0.14, 1.0), **_both)
_small = dict(size=96, crop=(0.05, 0.14), blur_kernel=13, **_both)
views = [_large] * 2 + [_small] * 6
data = dict(std=(0.228, 0.224, 0.225))  # official multicropdataset.py

# Official code: apex's LARC, clip=False.
optimizer = dict(type='LARS', momentum=0.9, trust_coefficient=1e-3, larc=True)
batch_size = 4096
epochs = 800
base_lr = 0.3  # 4.8 at 4096
warmup_epochs = 10
schedule = dict(start=0.3 / 4.8, end=1e-3)
weight_decay = 1e-6
decay_norm_and_bias = True  # official code: all parameters, LARC on all
precision = 'bf16'  # the authors: float16 by apex
channels_last = True
