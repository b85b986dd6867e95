"""DINO on scikit-learn's digits, with the budget and backbone of configs/byol/digits.py.

    python tools/train.py configs/dino/digits.py

There are two views and no small crops: in trials with 20 px crops beside the 32 px ones, k-NN
stayed near that of random weights or fell below it.

Cost, ours: one to four minutes on two CPU cores, alone or beside other work.
Accuracy, ours: docs/studies.md, the table of all methods, made by tools/train_all.py.
Hyper-parameters were chosen on the training and validation images.
"""

_base_ = '../_base_/digits.py'

method = dict(
    type='DINO',
    backbone=dict(name='resnet18', layers=(1, 1, 1, 1), width=0.5),
    hidden_dim=512,
    bottleneck_dim=128,
    prototypes=64,
    base_ema=0.9,
)

_view = dict(size=32, crop=(0.6, 1.0), flip_p=0.0, blur_p=1.0, blur_sigma=(0.1, 2.5))
views = [_view, _view]

optimizer = dict(type='AdamW')
epochs = 30
batch_size = 64
base_lr = 0.004
weight_decay = 0.04
warmup_epochs = 3
clip_grad = 3.0
workers = 1
online_eval = dict(every=5)
checkpoint = dict(every=10)
