"""SwAV, ResNet-50, ImageNet-1k, batches of 256 (Caron et al. 2020, arXiv 2006.09882).

    python tools/train.py configs/swav/bs256_r50_imagenet.py
    python tools/train.py configs/swav/bs256_r50_imagenet.py --cfg-options epochs=400

Source: facebookresearch/swav, scripts/swav_200ep_bs256_pretrain.sh (commit 04b8f43) and
src/multicropdataset.py (9a2dc80), which blurs with PIL. epochs=400 is the authors' longer run. They
used four GPUs of 64 images with synchronised BatchNorm.

Cost: 4 GPUs (authors' script). Time: not measured by us.
Accuracy, linear probe, top-1: 72.7 % at 200 epochs, 74.3 % at 400 (authors). Ours: not measured.
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
    frozen_epochs=1.0,  # 5005 steps of 256 images
    queue_size=3840,
    queue_from_epoch=15,
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
batch_size = 256
epochs = 200
base_lr = 0.6  # no warm-up
schedule = dict(end=1e-3)
weight_decay = 1e-6
decay_norm_and_bias = True  # official code: all parameters, LARC on all
precision = 'bf16'  # the authors: float16 by apex
channels_last = True
