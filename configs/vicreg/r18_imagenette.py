"""VICReg, ResNet-18, Imagenette at 128 px (Bardes, Ponce, LeCun 2021, arXiv 2105.04906).

    python tools/train.py configs/vicreg/r18_imagenette.py

configs/_base_/imagenette.py says where the photographs come from.

Source: lightly (lightly-ai/lightly), docs/source/getting_started/benchmarks/imagenette_benchmark.py
(commit 32c2b47), whose table is of batches of 256; views: lightly/transforms/vicreg_transform.py
(0c1e00c); loss, with the same weights of its terms: lightly/loss/vicreg_loss.py (2c485e4). Its LARS
(lightly/utils/lars.py, 0a6a3a3) decays and adapts all parameters and divides by |gradient| +
weight_decay |p|.
Differences: lightly solarizes before it blurs. Variance and covariance are computed from the images
of one pass, so keep accumulate=1.

Cost: 206 minutes on one A6000 (lightly). Ours: not measured.
Accuracy: 84.5 % (lightly, k-NN, best of 800 epochs). Ours: not measured.
"""

_base_ = '../_base_/imagenette.py'

method = dict(
    type='VICReg',
    backbone=dict(name='resnet18'),
    proj_dim=2048,
    invariance_weight=25.0,
    variance_weight=25.0,
    covariance_weight=1.0,
)

_view = dict(
    size=128,
    crop=(0.08, 1.0),
    interpolation='bilinear',
    flip_p=0.5,
    jitter=(0.4, 0.4, 0.2, 0.1),
    jitter_p=0.8,
    gray_p=0.2,
    blur_p=0.5,
    solarize_p=0.1,
)
views = [_view, _view]

optimizer = dict(type='LARS', momentum=0.9, trust_coefficient=1e-3, larc=True)
batch_size = 256
epochs = 800
base_lr = 0.3
weight_decay = 1e-4
decay_norm_and_bias = True
warmup_epochs = 40
schedule = dict(per_epoch=True, end=1e-3)
precision = 'bf16'
channels_last = True
