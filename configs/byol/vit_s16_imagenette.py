"""BYOL, ViT-Small/16, Imagenette at 224 px.

    python tools/train.py configs/byol/vit_s16_imagenette.py

It reads Imagenette's version of 320 px from data/imagenette2-320 (configs/_base_/imagenette.py).

Source: network, frozen patch embedding, weight decay, views and the share of the warm-up are those
of MoCo v3's ViT-S (facebookresearch/moco-v3, CONFIG.md, commit 38aae44); AdamW, its learning rate,
epochs and batch are those of stable-pretraining for BYOL on Imagenette (benchmarks/imagenet10/
RESULTS.md, 2e7a399), whose script we could not read. Heads and loss are BYOL's own. Published
decays are for other lengths: 'auto' renews the target 125 times in the 7,397 steps.
The recipe as a whole is not tuned.

Cost: not measured by us.
Accuracy, for comparison: 63.9 % linear, 56.0 % k-NN with k = 20 (stable-pretraining, both during
the training, untuned). Ours: not measured.
"""

_base_ = '../_base_/imagenette.py'

method = dict(
    type='BYOL',
    # As in configs/mocov3/vit_s16_imagenet.py.
    backbone=dict(
        name='vit_small_patch16_224', num_heads=12, weight_init='moco', fixed_patches=True
    ),
    hidden_dim=4096,
    proj_dim=256,
    base_ema='auto',
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
data = dict(
    train=dict(root='data/imagenette2-320/train'),
    test=dict(root='data/imagenette2-320/val'),
    eval_resize=256,
)

optimizer = dict(type='AdamW')
batch_size = 256
epochs = 200
base_lr = 5e-4
weight_decay = 0.1
decay_norm_and_bias = True  # MoCo v3: all parameters
warmup_epochs = 27  # MoCo v3: 40 of 300
precision = 'bf16'
