"""W-MSE 2, ResNet-18 with a CIFAR stem, CIFAR-10 (Ermolov et al. 2020, arXiv 2007.06346).

    python tools/train.py configs/w_mse/r18_cifar10.py

--cfg-options data.train.download=True data.test.download=True fetches the images.

Source: htdt/self-supervised, README.md (commit bd35c70) and cfg.py. W-MSE 4: four equal views and
batch_size=256 base_lr=0.003 warmup_epochs=2.56. 128 images are whitened together, so 128 must
divide the images of a pass.
Deviation: the code jitters before it crops; here the crop comes first, as in all recipes.

Cost: not measured by us.
Accuracy, linear probe: 91.55 %, W-MSE 4 91.99 % (authors, paper; from memory, unconfirmed). For
comparison: solo-learn 88.67 % (online probe, its own recipe). Ours: not measured.
"""

_base_ = '../_base_/cifar10.py'

method = dict(
    type='WMSE',
    backbone=dict(name='resnet18', stem='cifar'),
    hidden_dim=1024,
    proj_dim=64,
    whiten_size=128,
)

_view = dict(
    size=32,
    crop=(0.2, 1.0),
    flip_p=0.5,
    jitter=(0.4, 0.4, 0.4, 0.1),
    jitter_p=0.8,
    gray_p=0.1,
)
views = [_view, _view]
data = dict(std=(0.2023, 0.1994, 0.2010))  # official code

optimizer = dict(type='Adam')
batch_size = 512
epochs = 1000
base_lr = 1.5e-3  # per 256 images; 3e-3 for a batch of 512
weight_decay = 1e-6
decay_norm_and_bias = True  # official code: all parameters
warmup_epochs = 5.12  # 500 steps
# Drops 50 and 25 epochs before the end.
schedule = dict(shape='steps', start=1 / 500, milestones=(950, 975), gamma=0.2)
precision = 'bf16'
channels_last = True
