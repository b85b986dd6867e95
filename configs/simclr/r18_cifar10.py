"""SimCLR, ResNet-18 with a CIFAR stem, CIFAR-10 (Chen et al. 2020, arXiv 2002.05709).

    python tools/train.py configs/simclr/r18_cifar10.py

--cfg-options data.train.download=True data.test.download=True fetches the images.

Source: google-research/simclr, README.md and run.py at commit 0075cc0, the command for ResNet-18 on
CIFAR-10 in the code of v1: a head of two layers, weight decay 1e-6. The code of v2 changed both at
once (244e712): method.proj_layers=3 weight_decay=1e-4. The negatives come from the images of one
pass, so keep accumulate=1.

Cost: not measured by us.
Accuracy, linear probe: about 91 % (authors, README, for either version). For comparison: 91.1 %
(SimSiam's authors, appendix D, their recipe); solo-learn 90.74 % (online probe, its own recipe);
lightly 87.9 % (k-NN, best of 800 epochs). Ours: not measured.
"""

_base_ = '../_base_/cifar10.py'

method = dict(
    type='SimCLR',
    backbone=dict(name='resnet18', stem='cifar', zero_init_last=True),
    proj_dim=128,
    proj_layers=2,
    temperature=0.5,
)

_view = dict(
    size=32,
    crop=(0.08, 1.0),
    flip_p=0.5,
    jitter=(0.4, 0.4, 0.4, 0.1),  # strength 0.5
    jitter_p=0.8,
    gray_p=0.2,
)  # no blur
views = [_view, _view]
data = dict(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))  # the official code does not normalise

# Official lars_optimizer.py.
optimizer = dict(type='LARS', momentum=0.9, trust_coefficient=1e-3, classic_momentum=True)
batch_size = 512
epochs = 1000
base_lr = 1.0  # per 256 images, official model_util.py; 2.0 for a batch of 512
weight_decay = 1e-6
warmup_epochs = 10  # the code's default
precision = 'bf16'
channels_last = True
