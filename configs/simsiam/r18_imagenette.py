"""SimSiam, ResNet-18, Imagenette at 128 px (Chen, He 2020, arXiv 2011.10566).

    python tools/train.py configs/simsiam/r18_imagenette.py

configs/_base_/imagenette.py says where the photographs come from.

Source: lightly (lightly-ai/lightly), docs/source/getting_started/benchmarks/imagenette_benchmark.py
(commit 32c2b47), whose table is of batches of 256; heads: lightly/models/modules/heads.py
(0190899); views: lightly/transforms/simsiam_transform.py (064c465).
Differences: lightly's predictor follows the cosine; here it keeps its learning rate, as in the
paper.

Cost: 206 minutes on one A6000 (lightly). Ours: not measured.
Accuracy: 87.2 % (lightly, k-NN, best of 800 epochs). Ours: not measured.
"""

_base_ = '../_base_/imagenette.py'

method = dict(
    type='SimSiam',
    backbone=dict(name='resnet18'),
    proj_dim=2048,
    pred_hidden=512,
    proj_layers=3,
)

_view = dict(
    size=128,
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
epochs = 800
base_lr = 0.06
weight_decay = 5e-4
decay_norm_and_bias = True
schedule = dict(per_epoch=True)
precision = 'bf16'
channels_last = True
