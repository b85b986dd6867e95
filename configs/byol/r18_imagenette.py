"""BYOL, ResNet-18, Imagenette at 128 px: the authors' recipe for one GPU.

    python tools/train.py configs/byol/r18_imagenette.py

configs/_base_/imagenette.py says where the photographs come from. For a shorter run set
method.base_ema=auto: the decay of the target is then computed from the number of steps.

Source: google-deepmind/deepmind-research, byol/README.md, "Setup for fast iteration" (commit
2314aa7): base learning rate 2.0, weight decay 1e-6, batches of 256; all else is the preset for 1000
epochs of byol/configs/byol.py (4822a45). The centre crop of evaluation is that of
byol/utils/dataset.py (8457046) with 128 in place of 224: 4/5 of the short side. The README says
that these numbers were not finely tuned. Deviation: bf16; the authors trained in float32.

Cost: about 4 hours on one V100 (authors). Ours: not measured.
Accuracy: 92.3 % (authors, README, classifier trained beside the network). For comparison: lightly
88.7 % (k-NN, best of 800 epochs, its own recipe). Ours: not measured.
"""

_base_ = '../_base_/imagenette.py'

method = dict(
    type='BYOL',
    backbone=dict(name='resnet18'),
    hidden_dim=4096,
    proj_dim=256,
    base_ema=0.996,
)

_both = dict(
    size=128,
    crop=(0.08, 1.0),
    flip_p=0.5,
    jitter=(0.4, 0.4, 0.2, 0.1),
    jitter_p=0.8,
    gray_p=0.2,
)
views = [
    dict(**_both, blur_p=1.0, solarize_p=0.0),
    dict(**_both, blur_p=0.1, solarize_p=0.2),
]
data = dict(eval_resize=160)

optimizer = dict(type='LARS', momentum=0.9, trust_coefficient=1e-3)
batch_size = 256
epochs = 1000
base_lr = 2.0
weight_decay = 1e-6
warmup_epochs = 10
precision = 'bf16'  # the authors trained in float32
channels_last = True
