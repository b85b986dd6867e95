"""MoCo v3, ResNet-18, Imagenette at 128 px (Chen, Xie, He 2021, arXiv 2104.02057).

    python tools/train.py configs/mocov3/r18_imagenette.py

configs/_base_/imagenette.py says where the photographs come from.

Source: no recipe for Imagenette is known. These are solo-learn's numbers for ResNet-18 on
ImageNet-100 (vturrisi/solo-learn, scripts/pretrain/imagenet-100/mocov3.yaml, commit 07f8c3b, with
augmentations/asymmetric.yaml, 6f228fd; LARS: solo/utils/lars.py, 096530c). It trains at 224 px for
400 epochs of 13 times as many images; 128 px and 1000 epochs are those of BYOL's authors for
Imagenette. The negatives come from the images of one pass, so keep accumulate=1.

Cost: not measured by us.
Accuracy, for comparison: 84.7 % linear, 82.6 % k-NN with k = 20 (stable-pretraining, ViT-S, 224 px,
200 epochs, both during the training). Ours: not measured.
"""

_base_ = '../_base_/imagenette.py'

method = dict(
    type='MoCoV3',
    backbone=dict(name='resnet18'),
    hidden_dim=4096,
    proj_dim=256,
    proj_layers=2,
    temperature=0.2,
    base_ema=0.99,
)

_both = dict(
    size=128,
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

optimizer = dict(type='LARS', momentum=0.9, trust_coefficient=0.02, larc=True, clip_lr=True)
batch_size = 256  # two GPUs of 128
epochs = 1000
base_lr = 0.3
weight_decay = 1e-6
warmup_epochs = 10
schedule = dict(start=3e-5 / 0.3)
precision = 'bf16'
channels_last = True
