"""MoCo v3, ViT-Small/16, ImageNet-1k (Chen, Xie, He 2021, arXiv 2104.02057, sec. 4).

    python tools/train.py configs/mocov3/vit_s16_imagenet.py

Source: facebookresearch/moco-v3, CONFIG.md (commit 38aae44). The negatives come from the images of
one pass: with accumulate=N on one GPU there are N times fewer negatives. batch_size=1024 is the
authors' run for one node of 8 GPUs.

Cost: 32 GPUs of 32 GB at batch 4096 (authors, CONFIG.md). Time: not measured by us.
Accuracy, linear probe, top-1: 73.2 % (authors, CONFIG.md, 300 epochs, batch 4096). Ours: not
measured.
"""

_base_ = '../_base_/imagenet.py'

method = dict(
    type='MoCoV3',
    # Official vits.py.
    backbone=dict(
        name='vit_small_patch16_224', num_heads=12, weight_init='moco', fixed_patches=True
    ),
    hidden_dim=4096,
    proj_dim=256,
    proj_layers=3,
    predictor_norm=True,
    temperature=0.2,
    base_ema=0.99,
)

_both = dict(
    size=224,
    crop=(0.08, 1.0),
    interpolation='bilinear',
    flip_p=0.5,
    jitter=(0.4, 0.4, 0.2, 0.1),
    jitter_p=0.8,
    gray_p=0.2,
)
views = [
    dict(**_both, blur_p=1.0, solarize_p=0.0),
    dict(**_both, blur_p=0.1, solarize_p=0.2),
]

optimizer = dict(type='AdamW')
batch_size = 4096
epochs = 300
base_lr = 1.5e-4
weight_decay = 0.1
decay_norm_and_bias = True  # official main_moco.py: all parameters
warmup_epochs = 40
precision = 'bf16'  # the authors: float16 autocast
