"""DCL, ResNet-50, ImageNet-1k (Yeh et al. 2021, arXiv 2110.06848).

    python tools/train.py configs/dcl/r50_imagenet.py

Source: batch, epochs, temperature, head and views (SimCLR's) are the paper's. We could not confirm
its optimizer; here it is lightly's for DCL (lightly-ai/lightly,
benchmarks/imagenet/resnet50/dcl.py, commit 32c2b47): LARS with SimCLR's square-root rule,
torchvision's ResNet-50, whose last BatchNorm of each block starts with a scale of 1. lightly's loss
is the mean of both directions, ours the sum; under LARS this concerns norm parameters and biases
alone. The negatives come from the images of one pass, so keep accumulate=1.

Cost: not measured by us.
Accuracy, linear probe, top-1: 66.9 %, and 68.2 % with tuned hyper-parameters (authors, abstract:
batch 256, 200 epochs; SimCLR has 5.1 points less than the former); 65.1 % (lightly, 100 epochs).
Ours: not measured.
"""

_base_ = '../_base_/imagenet.py'

method = dict(
    type='DCL',
    backbone=dict(name='resnet50', zero_init_last=False),
    proj_dim=128,
    temperature=0.1,
)

_view = dict(
    size=224,
    crop=(0.08, 1.0),
    flip_p=0.5,
    jitter=(0.8, 0.8, 0.8, 0.2),
    jitter_p=0.8,
    gray_p=0.2,
    blur_p=0.5,
)
views = [_view, _view]

optimizer = dict(type='LARS', momentum=0.9, trust_coefficient=1e-3)
batch_size = 256
epochs = 200
base_lr = 1.2  # lightly: 0.075 sqrt(256); the paper's: SGD, from memory, unconfirmed
weight_decay = 1e-6  # lightly, SimCLR's paper
warmup_epochs = 10
precision = 'bf16'
channels_last = True
