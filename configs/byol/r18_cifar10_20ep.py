"""BYOL, ResNet-18 with a CIFAR stem, CIFAR-10, about 20 epochs.

    python tools/train.py configs/byol/r18_cifar10_20ep.py

--cfg-options data.train.download=True data.test.download=True fetches the images. Recipes for
other lengths: r18_cifar10_200ep.py and r18_cifar10.py (1000 epochs).

Source: optimizer, learning rate and weight decay are the authors' for a small data set
(google-deepmind/deepmind-research, byol/README.md, commit 2314aa7: Imagenette, ResNet-18, base lr
2.0, weight decay 1e-6); the views are solo-learn's for CIFAR-10, BYOL's at 32 px without blur
(scripts/pretrain/cifar/augmentations/asymmetric.yaml, 2432289). No published recipe is as short.
The decay of the target follows from the number of steps (base_ema='auto'), and the batch is half
the authors': in our trials of 5 epochs on a small network, k-NN rose when the target was renewed
more often and when there were more steps. The recipe as a whole is not tuned.

Cost: not measured by us. docs/results.md has a version shortened to 15 minutes on two CPU cores,
with its figures.
Accuracy: not measured by us, and none is published for so few epochs.
"""

_base_ = '../_base_/cifar10.py'

method = dict(
    type='BYOL',
    backbone=dict(name='resnet18', stem='cifar'),
    hidden_dim=4096,
    proj_dim=256,
    base_ema='auto',
)

_both = dict(
    size=32,
    crop=(0.08, 1.0),
    flip_p=0.5,
    jitter=(0.4, 0.4, 0.2, 0.1),
    jitter_p=0.8,
    gray_p=0.2,
)
views = [dict(**_both, solarize_p=0.0), dict(**_both, solarize_p=0.2)]

optimizer = dict(type='LARS', momentum=0.9, trust_coefficient=1e-3)
batch_size = 128
epochs = 20
base_lr = 2.0
weight_decay = 1e-6
warmup_epochs = 2
online_eval = dict(every=2)
checkpoint = dict(every=5)
precision = 'bf16'
channels_last = True
