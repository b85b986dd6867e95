"""MoCo v3, ResNet-18 with a CIFAR stem, CIFAR-10 (Chen, Xie, He 2021, arXiv 2104.02057).

    python tools/train.py configs/mocov3/r18_cifar10.py

--cfg-options data.train.download=True data.test.download=True fetches the images.

Source: solo-learn (vturrisi/solo-learn), scripts/pretrain/cifar/mocov3.yaml (commit 07f8c3b) with
augmentations/asymmetric.yaml (2432289); stem and defaults of the optimizer: solo/methods/base.py
(c980e9e), solo/args/pretrain.py (07458e5), solo/utils/lars.py (096530c). The paper has no CIFAR
recipe. The negatives come from the images of one pass, so keep accumulate=1.

Cost: not measured by us.
Accuracy: 93.10 % (solo-learn, online linear probe, 1000 epochs). Ours: not measured.
"""

_base_ = '../_base_/cifar10.py'

method = dict(
    type='MoCoV3',
    backbone=dict(name='resnet18', stem='cifar', stem_padding=2),
    hidden_dim=4096,
    proj_dim=256,
    proj_layers=2,
    temperature=0.2,
    base_ema=0.99,
)

_both = dict(
    size=32,
    crop=(0.08, 1.0),
    flip_p=0.5,
    jitter=(0.4, 0.4, 0.2, 0.1),
    jitter_p=0.8,
    gray_p=0.2,
)
views = [
    dict(**_both, solarize_p=0.0),  # BYOL's without blur
    dict(**_both, solarize_p=0.2),
]

optimizer = dict(type='LARS', momentum=0.9, trust_coefficient=0.02, larc=True, clip_lr=True)
batch_size = 256
epochs = 1000
base_lr = 0.3
weight_decay = 1e-6
warmup_epochs = 10
schedule = dict(start=3e-5 / 0.3)
precision = 'bf16'
channels_last = True
