"""ReSSL, ResNet-50, ImageNet-1k (Zheng et al. 2021, arXiv 2107.09282).

    python tools/train.py configs/ressl/r50_imagenet.py --cfg-options method.bn_splits=8

Source: mingkai-zheng/ReSSL, ressl.py (commit 277ab05) and network/ (4b92011, 0c53001), where the
last BatchNorm of each block starts with a scale of 1. On one process, method.bn_splits=8 normalises
eighths of a batch separately, as the authors' eight GPUs of 32 images did.

Cost: not measured by us.
Accuracy, linear probe, top-1: 69.9 % at 200 epochs (authors; 74.7 % with five crops). Ours: not
measured.
"""

_base_ = '../_base_/imagenet.py'

method = dict(
    type='ReSSL',
    backbone=dict(name='resnet50', zero_init_last=False),
    hidden_dim=4096,
    proj_dim=512,
    queue_size=131072,
    student_temperature=0.1,
    teacher_temperature=0.04,
    decay=0.999,
)

_weak = dict(size=224, crop=(0.2, 1.0), interpolation='bilinear', flip_p=0.5)
_strong = dict(  # MoCo v2's
    **_weak, jitter=(0.4, 0.4, 0.4, 0.1), jitter_p=0.8, gray_p=0.2, blur_p=0.5
)
views = [_strong, _weak]

optimizer = dict(type='SGD', momentum=0.9)
batch_size = 256
epochs = 200
base_lr = 0.05
# The official code also decays the shortcuts' norm parameters, whose names do not contain bn.
weight_decay = 1e-4
warmup_epochs = 5
precision = 'bf16'  # the authors trained in float32
channels_last = True
