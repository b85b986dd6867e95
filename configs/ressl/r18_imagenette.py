"""ReSSL, ResNet-18, Imagenette at 128 px (Zheng et al. 2021, arXiv 2107.09282).

    python tools/train.py configs/ressl/r18_imagenette.py

configs/_base_/imagenette.py says where the photographs come from.

Source: no recipe for Imagenette is known. These are solo-learn's numbers for ResNet-18 on
ImageNet-100 (vturrisi/solo-learn, scripts/pretrain/imagenet-100/ressl.yaml, commit e74719b, with
augmentations/ressl.yaml, e74719b). It trains at 224 px for 400 epochs of 13 times as many images;
128 px and 1000 epochs are those of BYOL's authors for Imagenette. Its queue of 65,536 would hold
each of our images seven times; ours is as long as lightly's of MoCo on Imagenette.
Differences: solo-learn's decay of the teacher rises from 0.99 to 1; here the decay is constant, as
in the official code. On one process, method.bn_splits=8 gives student and teacher different
BatchNorm statistics.

Cost: not measured by us.
Accuracy: we know no figure on Imagenette. Ours: not measured.
"""

_base_ = '../_base_/imagenette.py'

method = dict(
    type='ReSSL',
    backbone=dict(name='resnet18'),
    hidden_dim=4096,
    proj_dim=256,
    queue_size=4096,
    student_temperature=0.1,
    teacher_temperature=0.04,
    decay=0.99,
)

_weak = dict(size=128, crop=(0.08, 1.0), flip_p=0.5)
_strong = dict(**_weak, jitter=(0.4, 0.4, 0.2, 0.1), jitter_p=0.8, gray_p=0.2, blur_p=0.5)
views = [_strong, _weak]

optimizer = dict(type='SGD', momentum=0.9)
batch_size = 256  # two GPUs of 128
epochs = 1000
base_lr = 0.3
weight_decay = 1e-4
decay_norm_and_bias = True  # solo-learn excludes nothing
warmup_epochs = 10
schedule = dict(start=3e-5 / 0.3)
precision = 'bf16'
channels_last = True
