"""BYOL, ResNet-200 with every stage twice as wide, ImageNet-1k: the paper's best network.

    python tools/train.py configs/byol/r200w2_imagenet.py
    python tools/train.py configs/byol/r200w2_imagenet.py --cfg-options accumulate=64

With accumulate=64 one GPU makes 64 passes of 64 images. Grill et al. 2020, arXiv 2006.07733v3,
table 1. The recipe is that of ResNet-50 (r50_imagenet.py), but the last BatchNorm of each block
starts with a scale of 1, as for all numbers of the paper: 0, as in the released code, costs
accuracy in networks of this size (README).

Source: google-deepmind/deepmind-research, byol/configs/byol.py (commit 4822a45) and byol/README.md
(2314aa7).

Cost: 250 M parameters in the backbone. Time: not measured by us, not reported by the authors for
this network.
Accuracy, linear probe, top-1: 79.6 % (authors, table 1, 1000 epochs). Ours: not measured.
"""

_base_ = '../_base_/imagenet.py'

method = dict(
    type='BYOL',
    backbone=dict(name='resnet200', width=2, zero_init_last=False),
    hidden_dim=4096,
    proj_dim=256,
)

# Table 6.
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
precision = 'bf16'  # the authors trained in float32
channels_last = True
