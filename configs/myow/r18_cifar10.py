"""MYOW, ResNet-18 with a CIFAR stem, CIFAR-10 (Azabou et al. 2021, arXiv 2102.10106).

    python tools/train.py configs/myow/r18_cifar10.py

--cfg-options data.train.download=True data.test.download=True fetches the images.

Source: nerdslab/myow, scripts/cifar-train.py with the options of docs/cifar.md (commit 07e04c4),
where it runs on two GPUs of 256 images (batch_size=512). method.max_weight=0 gives BYOL alone. The
authors' code draws one set of augmentations per batch; here every image has its own.
methods/myow.py describes the pool. The paper has no ImageNet recipe, so the zoo has none either.

Cost: not measured by us.
Accuracy, linear probe: about 92.1 %, BYOL 91.7 % (authors, paper; from memory, unconfirmed). Ours:
not measured.
"""

_base_ = '../_base_/cifar10.py'

method = dict(
    type='MYOW',
    backbone=dict(name='resnet18', stem='cifar'),
    hidden_dim=4096,
    proj_dim=256,
    mined_hidden=1024,
    mined_dim=64,
    base_ema=0.98,
    k=1,
    max_weight=1.0,
    from_epoch=100,
    full_epoch=110,
)

_both = dict(
    size=32,
    crop=(0.2, 1.0),
    interpolation='bilinear',
    flip_p=0.5,
    jitter=(0.4, 0.4, 0.4, 0.1),
    jitter_p=0.8,
    gray_p=0.2,
)
_weak = dict(size=32, crop=(0.8, 1.0), interpolation='bilinear', flip_p=0.5)
views = [_both, _both, _weak, _weak]  # BYOL's two, the image for mining, the pool
data = dict(std=(0.2023, 0.1994, 0.2010))  # scripts/cifar-train.py

optimizer = dict(type='SGD', momentum=0.9)
batch_size = 256
epochs = 800
base_lr = 2.0
weight_decay = 5e-5  # not on norm parameters and biases
warmup_epochs = 30
precision = 'bf16'
channels_last = True
