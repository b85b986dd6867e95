"""ReSSL, ResNet-18 with a CIFAR stem, CIFAR-10 (Zheng et al. 2021, arXiv 2107.09282).

    python tools/train.py configs/ressl/r18_cifar10.py

--cfg-options data.train.download=True data.test.download=True fetches the images.

The recipe of solo-learn. Its decay of the teacher rises from 0.99 to 1; here the decay is constant,
as in the official code. On one process, method.bn_splits=8 gives student and teacher different
BatchNorm statistics.

Cost: not measured by us.
Accuracy, for comparison: solo-learn 90.63 % (online probe, 1000 epochs). Ours: not measured.
"""

_base_ = '../_base_/cifar10.py'

method = dict(
    type='ReSSL',
    backbone=dict(name='resnet18', stem='cifar'),
    hidden_dim=4096,
    proj_dim=256,
    queue_size=4096,  # the paper's for small data sets: from memory, unconfirmed
    student_temperature=0.1,
    teacher_temperature=0.04,
    decay=0.99,  # solo-learn: 0.99 at the start
)

_weak = dict(size=32, crop=(0.2, 1.0), flip_p=0.5)  # crop and flip: official augmentation.py
_strong = dict(
    **_weak,
    jitter=(0.4, 0.4, 0.4, 0.1),
    jitter_p=0.8,
    gray_p=0.2,
    blur_p=0.5,  # at 32 px with a kernel of 3
)
views = [_strong, _weak]

optimizer = dict(type='SGD', momentum=0.9)
batch_size = 256
epochs = 1000
base_lr = 0.05
weight_decay = 1e-4
warmup_epochs = 10
precision = 'bf16'
channels_last = True
