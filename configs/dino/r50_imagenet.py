"""DINO, ResNet-50, ImageNet-1k (Caron et al. 2021, arXiv 2104.14294).

    python tools/train.py configs/dino/r50_imagenet.py

Source: facebookresearch/dino, README.md (commit 7064315), the run of 100 epochs on 8 GPUs.

Cost: one node of 8 GPUs (authors, README). Time: not measured by us.
Accuracy: the README gives no figure for this run. The released network, of a longer run with other
arguments, has 75.3 % linear and 67.5 % k-NN (authors). lightly: 68.2 % linear, 49.9 % k-NN (100
epochs, batch 128, its own recipe). Ours: not measured.
"""

_base_ = '../_base_/imagenet.py'

method = dict(
    type='DINO',
    backbone=dict(name='resnet50', zero_init_last=False),  # torchvision's initialisation
    hidden_dim=2048,
    bottleneck_dim=256,
    prototypes=65536,
    base_ema=0.996,
    teacher_temperature=0.04,
    frozen_epochs=1.0,
)

_both = dict(flip_p=0.5, jitter=(0.4, 0.4, 0.2, 0.1), jitter_p=0.8, gray_p=0.2)
_small = dict(size=96, crop=(0.05, 0.14), blur_p=0.5, blur_kernel=13, **_both)
views = [
    dict(size=224, crop=(0.14, 1.0), blur_p=1.0, **_both),
    dict(size=224, crop=(0.14, 1.0), blur_p=0.1, solarize_p=0.2, **_both),
    *[_small] * 8,
]

optimizer = dict(type='SGD', momentum=0.9)
batch_size = 512  # 8 GPUs of 64
epochs = 100
base_lr = 0.03  # the README at commit 00e1bcc leaves --lr out
weight_decay = 1e-4
clip_grad = 3.0
warmup_epochs = 10
schedule = dict(end=1e-6 / 0.06)  # --min_lr 1e-6
precision = 'bf16'  # the authors: float16 autocast
channels_last = True
