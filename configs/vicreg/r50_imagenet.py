"""VICReg, ResNet-50, ImageNet-1k (Bardes, Ponce, LeCun 2021, arXiv 2105.04906).

    python tools/train.py configs/vicreg/r50_imagenet.py

Source: facebookresearch/vicreg, main_vicreg.py (main branch; its commit is not recorded here).
Options for the run on one node of its README: --cfg-options epochs=100 batch_size=512 base_lr=0.3
Variance and covariance are computed from the images of one pass: with accumulate=N on one GPU, from
N times fewer images.

Cost: not measured by us.
Accuracy, linear probe, top-1: 73.2 % at 1000 epochs (authors); 68.6 % at 100 epochs (authors, table
7, as quoted by others). Ours: not measured.
"""

_base_ = '../_base_/imagenet.py'

method = dict(
    type='VICReg',
    backbone=dict(name='resnet50'),
    proj_dim=8192,
    invariance_weight=25.0,
    variance_weight=25.0,
    covariance_weight=1.0,
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
weight_decay = 1e-6
warmup_epochs = 10
schedule = dict(end=1e-3)
precision = 'bf16'  # the authors: float16 autocast
channels_last = True
