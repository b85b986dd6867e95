"""BYOL in a race on one thread of a CPU: a small ResNet, a part of CIFAR-10, to 33 % k-NN.

    OMP_NUM_THREADS=1 python tools/speedrun.py configs/speedrun/byol_cifar10_small.py

--cfg-options data.train.download=True data.test.download=True fetches the images. It is the
regression test of the way from speed to accuracy (benchmarks/speedrun.py), not a good recipe.

An eighth of the width of ResNet-18 and one block in each stage; views of 16 px; the first 20,000
training images in stratified order; looks at 24 px, at all 10,000 test images.

Source: configs/byol/r18_cifar10_20ep.py (optimizer, the authors' for small data sets), with batches
of 64, for more steps. It is not tuned.

Cost: 2.8 minutes of one core of an AMD EPYC with AVX2 (beside other work 9.7 on the clock).
Accuracy: 34.05 % (k = 10) after three epochs, seed 0, n = 1; with random weights 29.64 %.
"""

_base_ = '../_base_/cifar10.py'

method = dict(
    type='BYOL',
    backbone=dict(name='resnet18', stem='cifar', width=0.125, layers=(1, 1, 1, 1)),
    hidden_dim=512,
    proj_dim=128,
    base_ema='auto',
)

_view = dict(
    size=16,
    crop=(0.2, 1.0),
    interpolation='bilinear',
    flip_p=0.5,
    jitter=(0.4, 0.4, 0.4, 0.1),
    jitter_p=0.8,
    gray_p=0.1,
)
views = [_view, _view]
data = dict(train=dict(limit=20000), val=None, expected_images=20000, eval_size=24)

optimizer = dict(type='LARS', momentum=0.9, trust_coefficient=1e-3)
batch_size = 64
epochs = 4
base_lr = 4.0
weight_decay = 1e-6
warmup_epochs = 0.2
channels_last = True
online_eval = dict(every=0)
checkpoint = dict(every=1, keep=1)
hooks = [dict(type='Race', target=33.0, every=1)]
