"""MYOW, ResNet-18, Imagenette at 128 px (Azabou et al. 2021, arXiv 2102.10106).

    python tools/train.py configs/myow/r18_imagenette.py

configs/_base_/imagenette.py says where the photographs come from.

Source: no recipe for Imagenette is known. All that MYOW shares with BYOL is as in the BYOL authors'
recipe for it (google-deepmind/deepmind-research, byol/README.md, commit 2314aa7, see
configs/byol/r18_imagenette.py); heads, weak views, k and the share of the epochs from which views
are mined are the MYOW authors' for CIFAR-10 (nerdslab/myow, docs/cifar.md, 07e04c4). MYOW's loss
halves BYOL's. LARS takes such a factor out of the steps of weights, but not of norm parameters and
biases: twice the learning rate for these, and half the weight decay, give BYOL's steps.

Cost: not measured by us.
Accuracy: we know no figure on Imagenette. Ours: not measured.
"""

_base_ = '../_base_/imagenette.py'

method = dict(
    type='MYOW',
    backbone=dict(name='resnet18'),
    hidden_dim=4096,
    proj_dim=256,
    mined_hidden=1024,
    mined_dim=64,
    base_ema=0.996,
    k=1,
    max_weight=1.0,
    from_epoch=125,  # on CIFAR-10 100 and 110 of 800
    full_epoch=137.5,
)

_both = dict(
    size=128,
    crop=(0.08, 1.0),
    flip_p=0.5,
    jitter=(0.4, 0.4, 0.2, 0.1),
    jitter_p=0.8,
    gray_p=0.2,
)
_weak = dict(size=128, crop=(0.8, 1.0), flip_p=0.5)
views = [  # BYOL's two, the image for mining, the pool
    dict(**_both, blur_p=1.0, solarize_p=0.0),
    dict(**_both, blur_p=0.1, solarize_p=0.2),
    _weak,
    _weak,
]
data = dict(eval_resize=160)

optimizer = dict(type='LARS', momentum=0.9, trust_coefficient=1e-3)
batch_size = 256
epochs = 1000
base_lr = 2.0
weight_decay = 5e-7  # BYOL: 1e-6
norm_and_bias_lr = 2.0
warmup_epochs = 10
precision = 'bf16'
channels_last = True
