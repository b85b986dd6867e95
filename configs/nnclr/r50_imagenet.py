"""NNCLR, ResNet-50, ImageNet-1k (Dwibedi et al. 2021, arXiv 2104.14548).

    python tools/train.py configs/nnclr/r50_imagenet.py

Source: widths of the heads and batch are the paper's as quoted by lightly
(lightly/models/modules/heads.py, commit 0190899); no official code is public. The values marked
"from memory" could not be confirmed in a source. The negatives come from the images of one pass:
with accumulate=N on one GPU there are N times fewer negatives.

Cost: not measured by us.
Accuracy, linear probe, top-1: 75.6 % (authors, abstract, their best); 75.4 % with two views and
1000 epochs (authors, as quoted by others); 69.4 / 70.7 / 74.2 / 74.9 % at 100 / 200 / 400 / 800
epochs (from memory, unconfirmed). Ours: not measured.
"""

_base_ = '../_base_/imagenet.py'

method = dict(
    type='NNCLR',
    backbone=dict(name='resnet50'),
    proj_hidden=2048,
    proj_dim=256,
    pred_hidden=4096,
    temperature=0.1,  # from memory, unconfirmed
    queue_size=98304,  # from memory, unconfirmed
)

# BYOL's views: from memory, unconfirmed.
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
batch_size = 4096
epochs = 1000
base_lr = 0.3  # from memory, unconfirmed
weight_decay = 1e-6  # from memory, unconfirmed
warmup_epochs = 10
precision = 'bf16'
channels_last = True
