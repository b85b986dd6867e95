"""NNCLR, ResNet-18 with a CIFAR stem, CIFAR-10 (Dwibedi et al. 2021, arXiv 2104.14548).

    python tools/train.py configs/nnclr/r18_cifar10.py

--cfg-options data.train.download=True data.test.download=True fetches the images.

Source: lightly (lightly-ai/lightly), docs/source/getting_started/benchmarks/cifar10_benchmark.py
(commit e93a49d). The paper has no CIFAR recipe. lightly's projector has two layers, ours the
paper's three; lightly's loss also repels the first views of all images from each other, and
likewise the second views.

Cost: not measured by us.
Accuracy, for comparison: lightly 89.2 % (k-NN, best of 800 epochs); solo-learn 91.88 % (online
probe, 1000 epochs, its own recipe). Ours: not measured.
"""

_base_ = '../_base_/cifar10.py'

method = dict(
    type='NNCLR',
    backbone=dict(name='resnet18', stem='cifar'),
    proj_hidden=2048,
    proj_dim=256,
    pred_hidden=4096,
    temperature=0.5,  # lightly: the default of its NTXentLoss
    queue_size=8192,  # lightly: 8192 for batches of 512, 4096 for 128
)

_view = dict(
    size=32,
    crop=(0.08, 1.0),
    interpolation='bilinear',
    flip_p=0.5,
    jitter=(0.4, 0.4, 0.4, 0.1),
    jitter_p=0.8,
    gray_p=0.2,
)
views = [_view, _view]
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
