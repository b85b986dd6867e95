"""DCL, ResNet-18 with a CIFAR stem, CIFAR-10 (Yeh et al. 2021, arXiv 2110.06848).

    python tools/train.py configs/dcl/r18_cifar10.py

--cfg-options data.train.download=True data.test.download=True fetches the images.

Source: lightly (lightly-ai/lightly), docs/source/getting_started/benchmarks/cifar10_benchmark.py
(commit e93a49d). lightly's loss (lightly/loss/dcl_loss.py, 30b2e45) is the mean of both directions,
ours the sum: under SGD the same steps need half its learning rate and twice its weight decay.
Differences: lightly adds one log sum of the negatives per view, ours is the paper's, over both
views; lightly forwards the views separately. Its head ends with a BatchNorm (heads.py, 0190899),
which has an offset and ours has none. method.sigma=0.5 gives DCLW. The negatives come from the
images of one pass, so keep accumulate=1.

Cost: not measured by us.
Accuracy, for comparison: lightly 87.4 %, DCLW 87.1 % (k-NN, best of 800 epochs, batch 512). Ours:
not measured.
"""

_base_ = '../_base_/cifar10.py'

method = dict(
    type='DCL', backbone=dict(name='resnet18', stem='cifar'), proj_dim=128, temperature=0.1
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
data = dict(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))  # lightly: ImageNet's

optimizer = dict(type='SGD', momentum=0.9)
batch_size = 512
epochs = 800
base_lr = 0.06  # lightly: 0.12 per 256 images
weight_decay = 1e-3  # lightly: 5e-4
decay_norm_and_bias = True
schedule = dict(per_epoch=True)
precision = 'bf16'
channels_last = True
