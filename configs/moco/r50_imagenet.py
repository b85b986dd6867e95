"""MoCo v2, ResNet-50, ImageNet-1k (Chen et al. 2020, arXiv 2003.04297).

    python tools/train.py configs/moco/r50_imagenet.py --cfg-options method.bn_splits=8
    python tools/train.py configs/moco/r50_imagenet.py --cfg-options method.bn_splits=8 epochs=800

Source: facebookresearch/moco, main_moco.py (commit 3b42c2a) with the options of v2 in its README.
The method is that of He et al. 2019, arXiv 1911.05722. On one process, method.bn_splits=8
normalises eighths of a batch separately, as the authors' eight GPUs did. Without this option key
and query share BatchNorm statistics, from which the network can recognise the positive (v1, sec.
3.3).

Cost: not measured by us.
Accuracy, linear probe, top-1: 67.5 % (std 0.1) at 200 epochs, 71.1 % at 800 (authors). Ours: not
measured.
"""

_base_ = '../_base_/imagenet.py'

method = dict(
    type='MoCo',
    backbone=dict(name='resnet50', zero_init_last=False),  # torchvision's initialisation
    hidden_dim=2048,
    proj_dim=128,
    queue_size=65536,
    temperature=0.2,
    decay=0.999,
)

# Official main_moco.py, --aug-plus; crops as torchvision resizes them.
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
batch_size = 256
epochs = 200
base_lr = 0.03
weight_decay = 1e-4
decay_norm_and_bias = True  # official code: all parameters
schedule = dict(per_epoch=True)  # official code, --cos: by whole epochs, no warm-up
precision = 'bf16'  # the authors trained in float32
channels_last = True
