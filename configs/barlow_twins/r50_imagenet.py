"""Barlow Twins, ResNet-50, ImageNet-1k (Zbontar et al. 2021, arXiv 2103.03230).

    python tools/train.py configs/barlow_twins/r50_imagenet.py
    python tools/train.py configs/barlow_twins/r50_imagenet.py --cfg-options epochs=300

Source: facebookresearch/barlowtwins, main.py (commit 046eec3). The correlation is computed from the
images of one pass: with accumulate=N on one GPU, from N times fewer images.

Cost: not measured by us.
Accuracy, linear probe, top-1: 73.2 % at 1000 epochs, 71.4 % at 300 (authors; the released network
of 1000 epochs: 73.5 %). Reproductions by others: 71.8 % at 300 (mmpretrain), 71.8 % at 1000
(VISSL). Ours: not measured.
"""

_base_ = '../_base_/imagenet.py'

method = dict(
    type='BarlowTwins',
    backbone=dict(name='resnet50'),
    proj_dim=8192,
    lambd=0.0051,  # official code; the paper's text: 5e-3
)

# BYOL's views.
_both = dict(
    size=224,
    crop=(0.08, 1.0),
    flip_p=0.5,
    jitter=(0.4, 0.4, 0.2, 0.1),
    jitter_p=0.8,
    gray_p=0.2,
)
views = [
    dict(**_both, blur_p=1.0, solarize_p=0.0),
    dict(**_both, blur_p=0.1, solarize_p=0.2),
]

optimizer = dict(type='LARS', momentum=0.9, trust_coefficient=1e-3)
batch_size = 2048
epochs = 1000
base_lr = 0.2
norm_and_bias_lr = 0.0048 / 0.2  # --learning-rate-biases 0.0048
weight_decay = 1e-6  # official code; the paper's text: 1.5e-6
warmup_epochs = 10
schedule = dict(end=1e-3)
precision = 'bf16'  # the authors: float16 autocast
channels_last = True
