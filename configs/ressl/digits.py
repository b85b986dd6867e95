"""ReSSL on scikit-learn's digits, with the budget and backbone of configs/byol/digits.py.

    python tools/train.py configs/ressl/digits.py

Cost, ours: one to four minutes on two CPU cores, alone or beside other work.
Accuracy, ours: docs/studies.md, the table of all methods, made by tools/train_all.py.
Hyper-parameters were chosen on the training and validation images.
"""

_base_ = '../_base_/digits.py'

method = dict(
    type='ReSSL',
    backbone=dict(name='resnet18', layers=(1, 1, 1, 1), width=0.5),
    hidden_dim=512,
    proj_dim=128,
    queue_size=1024,
    decay=0.99,
    bn_splits=4,
)

_weak = dict(size=32, crop=(0.6, 1.0), flip_p=0.0)
_strong = dict(**_weak, blur_p=1.0, blur_sigma=(0.1, 2.5))
views = [_strong, _weak]

optimizer = dict(type='SGD', momentum=0.9)
epochs = 30
batch_size = 64
base_lr = 0.5
weight_decay = 0.0001
warmup_epochs = 1
workers = 1
online_eval = dict(every=5)
checkpoint = dict(every=10)
