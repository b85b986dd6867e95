"""SimSiam, ResNet-18 with a CIFAR stem, CIFAR-10 (Chen, He 2020, arXiv 2011.10566, appendix D).

    python tools/train.py configs/simsiam/r18_cifar10.py

--cfg-options data.train.download=True data.test.download=True fetches the images.

Source: appendix D of the paper, its own CIFAR recipe. It gives the learning rate per 256 images,
and the views as those of ImageNet without blur.

Cost: not measured by us.
Accuracy, linear probe: 91.8 % (authors, appendix D, 800 epochs). For comparison: solo-learn 90.51 %
(online probe, its own recipe); lightly 90.4 % (k-NN, best of 800 epochs). Ours: not measured.
"""

_base_ = '../_base_/cifar10.py'

method = dict(
    type='SimSiam',
    backbone=dict(name='resnet18', stem='cifar'),
    proj_dim=2048,
    pred_hidden=512,
    proj_layers=2,
)

_view = dict(
    size=32,
    crop=(0.2, 1.0),
    interpolation='bilinear',
    flip_p=0.5,
    jitter=(0.4, 0.4, 0.4, 0.1),
    jitter_p=0.8,
    gray_p=0.2,
)
views = [_view, _view]

optimizer = dict(type='SGD', momentum=0.9)
batch_size = 512
epochs = 800
base_lr = 0.03
weight_decay = 5e-4
decay_norm_and_bias = True
schedule = dict(per_epoch=True)  # as on ImageNet
precision = 'bf16'
channels_last = True
