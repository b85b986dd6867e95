"""SimSiam, ResNet-50, ImageNet-1k (Chen, He 2020, arXiv 2011.10566, sec. 3 and 4).

    python tools/train.py configs/simsiam/r50_imagenet.py
    python tools/train.py configs/simsiam/r50_imagenet.py --cfg-options batch_size=256 epochs=200

Source: facebookresearch/simsiam, main_simsiam.py with --fix-pred-lr (commit 39ac33e).

Cost: not measured by us.
Accuracy, linear probe, top-1: 68.1 % at 100 epochs and batch 512; 68.3 / 70.0 / 70.8 / 71.3 % at
100 / 200 / 400 / 800 epochs and batch 256 (authors, paper and README of the official code). Ours:
not measured.
"""

_base_ = '../_base_/imagenet.py'

method = dict(
    type='SimSiam', backbone=dict(name='resnet50'), proj_dim=2048, pred_hidden=512, proj_layers=3
)

# MoCo v2's; crops as torchvision resizes them.
_view = dict(
    size=224,
    crop=(0.2, 1.0),
    interpolation='bilinear',
    flip_p=0.5,
    jitter=(0.4, 0.4, 0.4, 0.1),
    jitter_p=0.8,
    gray_p=0.2,
    blur_p=0.5,
)
views = [_view, _view]

optimizer = dict(type='SGD', momentum=0.9)
batch_size = 512
epochs = 100
base_lr = 0.05
weight_decay = 1e-4
decay_norm_and_bias = True  # official main_simsiam.py: all parameters
schedule = dict(per_epoch=True)  # official code; warm-up (10 epochs) from batch 1024 upwards only
precision = 'bf16'  # the authors trained in float32
channels_last = True
