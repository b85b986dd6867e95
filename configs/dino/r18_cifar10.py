"""DINO, ResNet-18 with a CIFAR stem, CIFAR-10 (Caron et al. 2021, arXiv 2104.14294).

    python tools/train.py configs/dino/r18_cifar10.py

--cfg-options data.train.download=True data.test.download=True fetches the images.

Source: lightly (lightly-ai/lightly), docs/source/getting_started/benchmarks/cifar10_benchmark.py
(commit e93a49d): two crops of 32 px and no local crops, 2048 prototypes, a last layer that is never
frozen. The paper has no CIFAR recipe. lightly's head has two layers and a BatchNorm; ours has the
paper's three layers and no BatchNorm. lightly's decay of the teacher is constant; here it starts at
0.99.

Cost: not measured by us.
Accuracy, for comparison: lightly 84.8 % (k-NN, best of 800 epochs); solo-learn 89.52 % (online
probe, 1000 epochs, its own recipe). Ours: not measured.
"""

_base_ = '../_base_/cifar10.py'

method = dict(
    type='DINO',
    backbone=dict(name='resnet18', stem='cifar'),
    hidden_dim=2048,
    bottleneck_dim=256,
    prototypes=2048,
    base_ema=0.99,
    teacher_temperature=0.04,
    frozen_epochs=0,
)

_both = dict(
    size=32,
    crop=(0.4, 1.0),
    flip_p=0.5,
    jitter=(0.4, 0.4, 0.2, 0.1),
    jitter_p=0.8,
    gray_p=0.2,
)
views = [dict(**_both, solarize_p=0.0), dict(**_both, solarize_p=0.2)]
data = dict(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))  # lightly: ImageNet's

optimizer = dict(type='SGD', momentum=0.9)
batch_size = 512
epochs = 800
base_lr = 0.12  # lightly: 0.06 per 128 images
weight_decay = 5e-4
decay_norm_and_bias = True
schedule = dict(per_epoch=True)
precision = 'bf16'
channels_last = True
