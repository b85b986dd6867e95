"""SimCLR, ResNet-18, Imagenette at 128 px (Chen et al. 2020, arXiv 2002.05709).

    python tools/train.py configs/simclr/r18_imagenette.py

configs/_base_/imagenette.py says where the photographs come from.

Source: lightly (lightly-ai/lightly), docs/source/getting_started/benchmarks/imagenette_benchmark.py
(commit 32c2b47), whose table is of batches of 256; views: lightly/transforms/simclr_transform.py
(013dec2). lightly's loss (lightly/loss/ntx_ent_loss.py, bb5070f) is the mean of both directions,
ours the sum, as in the authors' code: under SGD the same steps need half its learning rate, 0.06,
and twice its weight decay, 5e-4.
Differences: lightly's head ends with a BatchNorm (heads.py, 0190899) that has an offset, and ours
has none; lightly forwards the views separately. The negatives come from the images of one pass, so
keep accumulate=1.

Cost: 194 minutes on one A6000 (lightly). Ours: not measured.
Accuracy: 88.9 % (lightly, k-NN, best of 800 epochs). Ours: not measured.
"""

_base_ = '../_base_/imagenette.py'

method = dict(
    type='SimCLR',
    backbone=dict(name='resnet18'),
    proj_dim=128,
    proj_layers=2,
    temperature=0.5,
)

_view = dict(
    size=128,
    crop=(0.08, 1.0),
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
epochs = 800
base_lr = 0.03  # lightly: 0.06
weight_decay = 1e-3  # lightly: 5e-4
decay_norm_and_bias = True
schedule = dict(per_epoch=True)
precision = 'bf16'
channels_last = True
