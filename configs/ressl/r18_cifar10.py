"""ReSSL, ResNet-18 with a CIFAR stem, CIFAR-10 (Zheng et al. 2021, arXiv 2107.09282).

    python tools/train.py configs/ressl/r18_cifar10.py

--cfg-options data.train.download=True data.test.download=True fetches the images.

Source: solo-learn (vturrisi/solo-learn), scripts/pretrain/cifar/ressl.yaml (commit 07f8c3b) with
augmentations/ressl.yaml (e74719b); size of the queue: solo/methods/ressl.py (94e01eb); stem and
defaults of the optimizer: solo/methods/base.py (c980e9e), solo/args/pretrain.py (07458e5). Both
views are crops of the same sizes; the paper's for small data sets are unconfirmed.
Differences: solo-learn's decay of the teacher rises from 0.99 to 1; here the decay is constant, as
in the official code. On one process, method.bn_splits=8 gives student and teacher different
BatchNorm statistics.

Cost: not measured by us.
Accuracy: 90.63 % (solo-learn, online linear probe, 1000 epochs). Ours: not measured.
"""

_base_ = '../_base_/cifar10.py'

method = dict(
    type='ReSSL',
    backbone=dict(name='resnet18', stem='cifar', stem_padding=2),
    hidden_dim=4096,
    proj_dim=256,
    queue_size=65536,
    student_temperature=0.1,
    teacher_temperature=0.04,
    decay=0.99,
)

_weak = dict(size=32, crop=(0.08, 1.0), flip_p=0.5)
_strong = dict(
    **_weak,
    jitter=(0.4, 0.4, 0.2, 0.1),
    jitter_p=0.8,
    gray_p=0.2,
    blur_p=0.5,
    blur_kernel=13,  # solo-learn blurs with PIL, which does not cut the Gaussian off
)
views = [_strong, _weak]

optimizer = dict(type='SGD', momentum=0.9)
batch_size = 256
epochs = 1000
base_lr = 0.05
weight_decay = 1e-4
decay_norm_and_bias = True  # solo-learn excludes nothing
warmup_epochs = 10
schedule = dict(start=3e-5 / 0.05)
precision = 'bf16'
channels_last = True
