"""DCL on scikit-learn's digits, with the budget and backbone of configs/byol/digits.py.

    python tools/train.py configs/dcl/digits.py

Cost, ours: one to four minutes on two CPU cores, alone or beside other work.
Accuracy, ours: docs/studies.md, the table of all methods, made by tools/train_all.py.
Hyper-parameters were chosen on the training and validation images.
"""

_base_ = '../_base_/digits.py'

method = dict(
    type='DCL',
    backbone=dict(name='resnet18', layers=(1, 1, 1, 1), width=0.5),
    proj_dim=128,
    temperature=1.0,
)

_view = dict(size=32, crop=(0.6, 1.0), flip_p=0.0, blur_p=1.0, blur_sigma=(0.1, 2.5))
views = [_view, _view]

optimizer = dict(type='LARS', momentum=0.9)
epochs = 30
batch_size = 64
base_lr = 8.0
weight_decay = 1e-06
warmup_epochs = 4
workers = 1
online_eval = dict(every=5)
checkpoint = dict(every=10)
