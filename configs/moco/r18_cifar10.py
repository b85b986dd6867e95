"""MoCo, ResNet-18 with a CIFAR stem, CIFAR-10 (He et al. 2019, arXiv 1911.05722).

    python tools/train.py configs/moco/r18_cifar10.py
    python tools/train.py configs/moco/r18_cifar10.py --cfg-options epochs=800

--cfg-options data.train.download=True data.test.download=True fetches the images.

Source: the authors' notebook colab/moco_cifar10_demo.ipynb (facebookresearch/moco, branch
colab-notebook, commit f736491), with its loss of one direction: split BatchNorm, a linear head, a
fast key network, a small queue. The notebook counts the epochs of the cosine from 1, we from 0.

Cost: not measured by us.
Accuracy, k-NN: 82.6 / 86.3 / 88.7 % at 200 / 400 / 800 epochs (authors, notebook: k = 200,
T = 0.1, on the output of the head). Ours: not measured. For comparison: solo-learn 92.94 % (MoCo
v2+, online linear probe, 1000 epochs, its own recipe).
"""

_base_ = '../_base_/cifar10.py'

method = dict(
    type='MoCo',
    backbone=dict(name='resnet18', stem='cifar'),
    hidden_dim=None,
    proj_dim=128,
    queue_size=4096,
    temperature=0.1,
    decay=0.99,
    bn_splits=8,
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
data = dict(std=(0.2023, 0.1994, 0.2010))  # the notebook's

optimizer = dict(type='SGD', momentum=0.9)
batch_size = 512
epochs = 200
base_lr = 0.03  # 0.06 for a batch of 512
weight_decay = 5e-4
decay_norm_and_bias = True
schedule = dict(per_epoch=True)
precision = 'bf16'
channels_last = True
