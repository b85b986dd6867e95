"""W-MSE 4, ResNet-18, Imagenette at 128 px (Ermolov et al. 2020, arXiv 2007.06346).

    python tools/train.py configs/w_mse/r18_imagenette.py

configs/_base_/imagenette.py says where the photographs come from.

Source: no recipe for Imagenette is known. These are the authors' numbers for W-MSE 4 on Tiny
ImageNet (htdt/self-supervised, README.md, commit 2740956): batches of 256 images, four views,
learning rate 2e-3, 128 features, 256 images that are whitened together, 1000 epochs. The views are
those of their ImageNet-100, without blur (configs/w_mse/r50_imagenet.py). 256 must divide the
images of a pass.
Deviation: the code jitters before it crops; here the crop comes first, as in all recipes.

Cost: not measured by us.
Accuracy, for comparison: 15.9 % linear, 16.9 % k-NN with k = 20 (stable-pretraining, ViT-S, 200
epochs, untuned: its recipe does not learn). Ours: not measured.
"""

_base_ = '../_base_/imagenette.py'

method = dict(
    type='WMSE',
    backbone=dict(name='resnet18'),
    hidden_dim=1024,
    proj_dim=128,
    whiten_size=256,
)

_view = dict(
    size=128,
    crop=(0.08, 1.0),
    flip_p=0.5,
    jitter=(0.8, 0.8, 0.8, 0.2),
    jitter_p=0.8,
    gray_p=0.2,
)
views = [_view, _view, _view, _view]

optimizer = dict(type='Adam')
batch_size = 256
epochs = 1000
base_lr = 2e-3
weight_decay = 1e-6
decay_norm_and_bias = True  # official code: all parameters
warmup_epochs = 13.5  # official code: 500 steps
# Official code: drops 50 and 25 epochs before the end.
schedule = dict(shape='steps', start=1 / 500, milestones=(950, 975), gamma=0.2)
precision = 'bf16'
channels_last = True
