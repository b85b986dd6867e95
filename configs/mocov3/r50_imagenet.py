"""MoCo v3, ResNet-50, ImageNet-1k (Chen, Xie, He 2021, arXiv 2104.02057).

    python tools/train.py configs/mocov3/r50_imagenet.py
    python tools/train.py configs/mocov3/r50_imagenet.py --cfg-options epochs=300

Source: facebookresearch/moco-v3, CONFIG.md (commit 38aae44); with epochs=300 its preset for 300
epochs applies. The negatives come from the images of one pass: with accumulate=N on one GPU there
are N times fewer negatives, which is not the paper's run.

Cost: batches of 4096 fit into 16 GPUs of 32 GB (authors, CONFIG.md). Time: not measured by us.
Accuracy, linear probe, top-1: 68.9 / 72.8 / 74.6 % at 100 / 300 / 1000 epochs (authors, CONFIG.md).
Ours: not measured.
"""

_base_ = '../_base_/imagenet.py'

method = dict(
    type='MoCoV3',
    backbone=dict(name='resnet50'),
    hidden_dim=4096,
    proj_dim=256,
    proj_layers=2,
    temperature=1.0,
)

# BYOL's views, except for --crop-min=.2 and torchvision's resizing.
_both = dict(
    size=224,
    crop=(0.2, 1.0),
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

# Official moco/optimizer.py.
optimizer = dict(type='LARS', momentum=0.9, trust_coefficient=1e-3)
batch_size = 4096
epochs = 1000
warmup_epochs = 10
# Official CONFIG.md.
presets = [
    dict(epochs=100, base_lr=0.6, weight_decay=1e-6, method=dict(base_ema=0.99)),
    dict(epochs=300, base_lr=0.3, weight_decay=1e-6, method=dict(base_ema=0.99)),
    dict(epochs=1000, base_lr=0.3, weight_decay=1.5e-6, method=dict(base_ema=0.996)),
]
precision = 'bf16'  # the authors: float16 autocast
channels_last = True
