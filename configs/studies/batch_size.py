"""How much accuracy BYOL and SimCLR lose as the batch shrinks.

    python tools/study.py configs/studies/batch_size.py --devices 0 1 \\
        --cfg-options data.train.download=True data.test.download=True
    python tools/study.py configs/studies/batch_size.py --small --jobs 2

After figure 3a of BYOL (Grill et al. 2020, arXiv 2006.07733). As in the paper, a step keeps the
full batch and its learning rate, but is split into more and smaller passes, whose gradients are
averaged. So only the images that BatchNorm sees, and SimCLR's negatives, become fewer. The authors'
figures are in configs/byol/README.md. The full study (CIFAR-10, ResNet-18) is not measured; results
of the small version (digits) are in docs/studies.md.
"""

title = 'BYOL and SimCLR as the batch shrinks'
question = (
    'How much accuracy do BYOL and SimCLR lose when a forward pass sees fewer images, all else '
    'equal?'
)
caveats = [
    'After figure 3a of BYOL, on small images: the authors used ImageNet, ResNet-50 and batches '
    'from 4096 to 64.'
]

_view = dict(
    size=32,
    crop=(0.2, 1.0),
    flip_p=0.5,
    jitter=(0.4, 0.4, 0.2, 0.1),
    jitter_p=0.8,
    gray_p=0.2,
)
_views = f'views={[_view, _view]}'
methods = {
    # With four times as many images per step there are fewer steps than in the config's own run.
    'BYOL': dict(config='../byol/r18_cifar10_200ep.py', options=['method.base_ema=auto']),
    'SimCLR': '../simclr/r18_cifar10.py',
}
recipe = [
    _views,
    'epochs=200',
    'batch_size=1024',
    'warmup_epochs=10',
    'data.mean=(0.4914, 0.4822, 0.4465)',
    'data.std=(0.2470, 0.2435, 0.2616)',
    'online_eval.every=20',
    'checkpoint.every=20',
    'checkpoint.keep=1',
]
axes = {'images per pass': {f'{1024 // n}': [f'accumulate={n}'] for n in (1, 4, 16, 64)}}
seeds = [0, 1, 2]
tune = dict(key='base_lr', factors=[0.5, 1, 2], options=['epochs=100'])
evaluate = dict(labels=[])

small = dict(
    caveats=[
        'After figure 3a of BYOL, in miniature: the authors used ImageNet, ResNet-50, 300 epochs '
        'and passes from 4096 to 64 images. A pass of 8 digits has nearly one image of each class, '
        'so that its statistics and its negatives are poor for another reason than theirs.'
    ],
    methods={'BYOL': '../byol/digits.py', 'SimCLR': '../simclr/digits.py'},
    recipe=[
        'epochs=15',
        'warmup_epochs=2',
        'batch_size=128',
        'method.backbone.width=0.25',
        'data.on_device=True',
        'workers=0',
        'online_eval.every=3',
        'log_every=20',
        'checkpoint.every=5',
        'checkpoint.keep=1',
    ],
    axes={'images per pass': {f'{128 // n}': [f'accumulate={n}'] for n in (1, 4, 16)}},
    tune=dict(key='base_lr', factors=[0.25, 0.5, 1]),
)
