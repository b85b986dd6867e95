"""W-MSE 4, ResNet-50, ImageNet-1k (Ermolov et al. 2020, arXiv 2007.06346).

    python tools/train.py configs/w_mse/r50_imagenet.py

Source: htdt/self-supervised, README.md on its main branch, the W-MSE 4 command for ImageNet-100:
240 epochs, batches of 256 images, learning rate 2e-3, four views, 128 features, parts of 256 images
that are whitened together, views without blur (datasets/transforms.py, commit 2740956), and
torchvision's network, whose last BatchNorm of each block starts with a scale of 1 (model.py,
04148be). The code has no command for ImageNet-1k, so batch, epochs and learning rate of the
authors' run on it are unconfirmed. 256 must divide the images of a pass.
Deviation: the code jitters before it crops; here the crop comes first, as in all recipes.

Cost: not measured by us.
Accuracy, linear probe, top-1: 69.4 / 72.6 % at 100 / 400 epochs with four views (authors; from
memory, unconfirmed, in batches of another size). Ours: not measured.
"""

_base_ = '../_base_/imagenet.py'

method = dict(
    type='WMSE',
    backbone=dict(name='resnet50', zero_init_last=False),
    hidden_dim=1024,
    proj_dim=128,
    whiten_size=256,
)

_view = dict(
    size=224,
    crop=(0.08, 1.0),
    flip_p=0.5,
    jitter=(0.8, 0.8, 0.8, 0.2),
    jitter_p=0.8,
    gray_p=0.2,
)
views = [_view, _view, _view, _view]

optimizer = dict(type='Adam')
batch_size = 256
epochs = 240
base_lr = 2e-3
weight_decay = 1e-6
decay_norm_and_bias = True  # official code: all parameters
warmup_epochs = 0.1  # official code: 500 steps
# Official code: drops 50 and 25 epochs before the end.
schedule = dict(shape='steps', start=1 / 500, milestones=(190, 215), gamma=0.2)
precision = 'bf16'
channels_last = True
