"""MoCo v1, ResNet-50, ImageNet-1k (He et al. 2019, arXiv 1911.05722, sec. 3.3 and 4.1).

    python tools/train.py configs/moco/v1_r50_imagenet.py --cfg-options method.bn_splits=8

Source: facebookresearch/moco, main_moco.py (commit 3b42c2a). On one process, method.bn_splits=8
normalises eighths of a batch separately, as the authors' eight GPUs did. Deviation: the official
code applies grayscale before jitter; here jitter comes first, as in all recipes.

Cost: not measured by us.
Accuracy, linear probe, top-1: 60.6 % (std 0.2) at 200 epochs (authors). Ours: not measured.
"""

_base_ = '../_base_/imagenet.py'

method = dict(
    type='MoCo',
    backbone=dict(name='resnet50', zero_init_last=False),  # torchvision's initialisation
    hidden_dim=None,
    proj_dim=128,
    queue_size=65536,
    temperature=0.07,
    decay=0.999,
)

# Official main_moco.py without --aug-plus.
_view = dict(
    size=224,
    crop=(0.2, 1.0),
    interpolation='bilinear',
    flip_p=0.5,
    jitter=(0.4, 0.4, 0.4, 0.4),
    jitter_p=1.0,
    gray_p=0.2,
)
views = [_view, _view]

optimizer = dict(type='SGD', momentum=0.9)
batch_size = 256
epochs = 200
base_lr = 0.03
weight_decay = 1e-4
decay_norm_and_bias = True  # official code: all parameters
schedule = dict(shape='steps', milestones=(120, 160), gamma=0.1)
precision = 'bf16'  # the authors trained in float32
channels_last = True
