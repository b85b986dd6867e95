"""BYOL without batch statistics, ResNet-50, ImageNet-1k (Richemond et al. 2020, arXiv 2010.10241).

    python tools/train.py configs/byol/r50_gn_ws_imagenet.py
    python tools/train.py configs/byol/r50_gn_ws_imagenet.py --cfg-options accumulate=16

GroupNorm and weight standardisation take the place of BatchNorm in backbone and heads, so images
do not influence each other. accumulate=16 (16 passes of 256 images) is therefore the same run. All
other hyper-parameters are those of BYOL (r50_imagenet.py); the paper's, which may differ, are
unconfirmed.

Source: the abstract of the paper; hyper-parameters from google-deepmind/deepmind-research,
byol/configs/byol.py (commit 4822a45).

Cost: not measured by us.
Accuracy, linear probe, top-1: 73.9 % (authors, abstract, 1000 epochs; 74.3 % with BatchNorm). Ours:
not measured.
"""

_base_ = '../_base_/imagenet.py'

method = dict(
    type='BYOL',
    backbone=dict(name='resnet50'),
    hidden_dim=4096,
    proj_dim=256,
    groups=16,  # from memory, unconfirmed
)

# BYOL, table 6.
_both = dict(
    size=224,
    crop=(0.08, 1.0),
    flip_p=0.5,
    jitter=(0.4, 0.4, 0.2, 0.1),
    jitter_p=0.8,
    gray_p=0.2,
)
views = [
    dict(**_both, blur_p=1.0, solarize_p=0.0),  # T
    dict(**_both, blur_p=0.1, solarize_p=0.2),  # T'
]

# Official byol/utils/optimizers.py.
optimizer = dict(type='LARS', momentum=0.9, trust_coefficient=1e-3)
batch_size = 4096
epochs = 1000
warmup_epochs = 10
# Official byol/configs/byol.py.
presets = [
    dict(epochs=40, base_lr=0.45, weight_decay=1e-6, method=dict(base_ema=0.97)),
    dict(epochs=100, base_lr=0.45, weight_decay=1e-6, method=dict(base_ema=0.99)),
    dict(epochs=300, base_lr=0.3, weight_decay=1e-6, method=dict(base_ema=0.99)),
    dict(epochs=1000, base_lr=0.2, weight_decay=1.5e-6, method=dict(base_ema=0.996)),
]
precision = 'bf16'
channels_last = True
