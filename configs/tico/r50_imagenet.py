"""TiCo, ResNet-50, ImageNet-1k (Zhu et al. 2022, arXiv 2206.10698).

    python tools/train.py configs/tico/r50_imagenet.py

Source: lightly (lightly-ai/lightly), benchmarks/imagenet/resnet50/tico.py (commit 05de213), with
its heads and its beta, and with torchvision's ResNet-50, whose last BatchNorm of each block starts
with a scale of 1. rho is 8, the paper's (from memory, unconfirmed; lightly's default is 20,
lightly/loss/tico_loss.py, 32a87c2). No official code is public, and we could not confirm the
paper's optimizer, batch and epochs. lightly's loss has one direction, ours has both.

Cost: not measured by us.
Accuracy, linear probe, top-1: 49.7 % (lightly, 100 epochs; k-NN 26.6 %). The authors': not
confirmed. Ours: not measured.
"""

_base_ = '../_base_/imagenet.py'

method = dict(
    type='TiCo',
    backbone=dict(name='resnet50', zero_init_last=False),
    hidden_dim=4096,
    proj_dim=256,
    beta=0.9,
    rho=8.0,
    base_ema=0.99,
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
batch_size = 256
epochs = 100
base_lr = 0.2
weight_decay = 1.5e-6
warmup_epochs = 10
precision = 'bf16'
channels_last = True
