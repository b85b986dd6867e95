"""TiCo, ResNet-18 with a CIFAR stem, CIFAR-10 (Zhu et al. 2022, arXiv 2206.10698).

    python tools/train.py configs/tico/r18_cifar10.py

--cfg-options data.train.download=True data.test.download=True fetches the images.

Source: optimizer, heads and decay are those of lightly for Imagenette (lightly-ai/lightly,
docs/source/getting_started/benchmarks/imagenette_benchmark.py since March 2023, ResNet-18, batch
256, 800 epochs), beta is lightly's default, and rho is 8, the paper's (from memory, unconfirmed;
lightly's default is 20, lightly/loss/tico_loss.py, commit 32a87c2). The views are those of
solo-learn for BYOL on CIFAR-10 (scripts/pretrain/cifar/augmentations/asymmetric.yaml, 2432289). We
could not confirm whether the paper has a CIFAR recipe. lightly's decay rises by epochs, ours by
steps; lightly's loss has one direction, ours has both.

Cost: not measured by us.
Accuracy: we know no figure on CIFAR-10 (lightly, Imagenette, another data set: 85.6 %, k-NN, best
of 800 epochs). Ours: not measured.
"""

_base_ = '../_base_/cifar10.py'

method = dict(
    type='TiCo',
    backbone=dict(name='resnet18', stem='cifar'),
    hidden_dim=1024,
    proj_dim=256,
    beta=0.9,
    rho=8.0,
    base_ema=0.996,
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
    dict(**_both, solarize_p=0.0),  # solo-learn: BYOL's without blur
    dict(**_both, solarize_p=0.2),
]

optimizer = dict(type='SGD', momentum=0.9)
batch_size = 256
epochs = 800
base_lr = 0.3
weight_decay = 1e-4
decay_norm_and_bias = True
warmup_epochs = 40
schedule = dict(per_epoch=True)
precision = 'bf16'
channels_last = True
