"""SimCLR (v1), ResNet-50, ImageNet-1k (Chen et al. 2020, arXiv 2002.05709, sec. 2, appendix A).

    python tools/train.py configs/simclr/r50_imagenet.py
    python tools/train.py configs/simclr/r50_imagenet.py --cfg-options method.proj_layers=3 \\
        weight_decay=1e-4

Source: google-research/simclr, README.md and run.py at commit 0075cc0 (v1). The options
method.proj_layers=3 weight_decay=1e-4 are those of v2 (arXiv 2006.10029; README at dec99a8). The
negatives come from the images of one pass: with accumulate=N on one GPU there are N times fewer
negatives, which is not the paper's run.

Cost: about 6 hours on 32 TPU v3 for 100 epochs (authors, README of the official code). Ours: not
measured.
Accuracy, linear probe, top-1: 69.3 % (authors, 1000 epochs); 64.5 / 66.8 / 68.0 / 69.1 % at 100 /
200 / 400 / 800 epochs with base_lr=0.3 (authors, table B.1, where the rule 0.075 sqrt(batch) gives
the same rate at 4096); 71.7 % for v2 (README). Ours: not measured.
"""

_base_ = '../_base_/imagenet.py'

method = dict(
    type='SimCLR', backbone=dict(name='resnet50'), proj_dim=128, proj_layers=2, temperature=0.1
)

# Appendix A.
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
data = dict(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))  # the official code does not normalise

# Official lars_optimizer.py.
optimizer = dict(type='LARS', momentum=0.9, trust_coefficient=1e-3, classic_momentum=True)
batch_size = 4096
epochs = 1000
base_lr = 0.3  # linear rule
weight_decay = 1e-6  # v1; the code of v2 has 1e-4 and three layers
warmup_epochs = 10
precision = 'bf16'  # the authors trained in float32
channels_last = True
