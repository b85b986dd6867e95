"""BYOL, ResNet-50, ImageNet-1k: the paper's main result.

    python tools/train.py configs/byol/r50_imagenet.py
    python tools/train.py configs/byol/r50_imagenet.py --cfg-options accumulate=16
    python tools/train.py configs/byol/r50_imagenet.py --cfg-options epochs=100

With accumulate=16 one GPU makes 16 passes of 256 images. With epochs=100 the official preset for
100 epochs applies. Grill et al. 2020, arXiv 2006.07733v3, sec. 3.2 and appendices B and J.

Source: google-deepmind/deepmind-research, byol/configs/byol.py (commit 4822a45). As in this code
the last BatchNorm of each block starts with a scale of 0; the paper's numbers were made with 1, and
the authors saw no difference for this network (byol/README.md, 2314aa7).

Cost: about 8 hours on 512 TPU v3 cores for 1000 epochs (authors). On one GPU: not measured by us.
Accuracy, linear probe, top-1: 74.3 % (authors, table 1, 1000 epochs); 72.5 % at 300 epochs
(authors, sec. 5). Ours: not measured.
"""

_base_ = '../_base_/imagenet.py'

method = dict(type='BYOL', backbone=dict(name='resnet50'), hidden_dim=4096, proj_dim=256)

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
