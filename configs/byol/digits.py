"""BYOL on digits"""
_base_ = '../_base_/digits.py'
method = dict(type='BYOL', backbone=dict(name='resnet18', width=0.5, layers=(1, 1, 1, 1)), hidden_dim=512, proj_dim=128, base_ema=0.97)
_view = dict(size=32, crop=(0.6, 1.0), flip_p=0.0, blur_p=0.5, blur_sigma=(0.1, 1.5))
views = [_view, _view]
optimizer = dict(type='LARS', momentum=0.9)
epochs = 40
batch_size = 64
base_lr = 4.0
weight_decay = 1e-6
warmup_epochs = 4
workers = 1
watch = dict(every=5)
checkpoint = dict(every=10)
