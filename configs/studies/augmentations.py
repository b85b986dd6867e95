"""How much accuracy BYOL and SimCLR lose as augmentations are taken away.

    python tools/study.py configs/studies/augmentations.py --devices 0 1 \\
        --cfg-options data.train.download=True data.test.download=True
    python tools/study.py configs/studies/augmentations.py --small --jobs 2

After figure 3b of BYOL (Grill et al. 2020, arXiv 2006.07733). Two equal views with crop, flip,
jitter, grayscale and blur; then without colour (jitter and grayscale), without blur, and with the
crop alone. The learning rate is chosen with all augmentations and kept. The authors' figures are in
configs/byol/README.md. The full study (CIFAR-10, ResNet-18) is not measured; results of the small
version (digits) are in docs/studies.md.
"""

title = 'BYOL and SimCLR with fewer augmentations'
question = (
    'How much accuracy do BYOL and SimCLR lose without colour, without blur, and with the crop '
    'alone?'
)
caveats = [
    'After figure 3b of BYOL, on small images: the authors used ImageNet and ResNet-50. Most '
    'CIFAR-10 recipes have no blur, whose kernel at 32 pixels is 3 pixels wide.'
]

_view = dict(
    size=32,
    crop=(0.2, 1.0),
    flip_p=0.5,
    jitter=(0.4, 0.4, 0.2, 0.1),
    jitter_p=0.8,
    gray_p=0.2,
    blur_p=0.5,
)
methods = {
    'BYOL': '../byol/r18_cifar10_200ep.py',
    'SimCLR': '../simclr/r18_cifar10.py',
}
recipe = [
    f'views={[_view, _view]}',
    'epochs=200',
    'batch_size=256',
    'warmup_epochs=10',
    'data.mean=(0.4914, 0.4822, 0.4465)',
    'data.std=(0.2470, 0.2435, 0.2616)',
    'online_eval.every=20',
    'checkpoint.every=20',
    'checkpoint.keep=1',
]


def _off(*keys):
    """Return the options that set these keys of both views to 0."""
    return [f'views.{i}.{key}=0' for i in (0, 1) for key in keys]


axes = {
    'views': {
        'all': [],
        'no colour': _off('jitter_p', 'gray_p'),
        'no blur': _off('blur_p'),
        'crop only': _off('jitter_p', 'gray_p', 'blur_p', 'flip_p'),
    }
}
seeds = [0, 1, 2]
tune = dict(key='base_lr', factors=[0.5, 1, 2], options=['epochs=100'])
evaluate = dict(labels=[])

_digit = dict(
    size=32,
    crop=(0.6, 1.0),
    flip_p=0.0,
    jitter=(0.4, 0.4, 0.0, 0.0),
    jitter_p=0.8,
    blur_p=1.0,
    blur_sigma=(0.1, 2.5),
)
small = dict(
    caveats=[
        'After figure 3b of BYOL, in miniature: the authors used ImageNet, ResNet-50 and 300 '
        'epochs. Digits are grey: colour is brightness and contrast alone here, so that the '
        "authors' finding on colour, that without it contrastive methods may compare histograms, "
        'cannot show. (On 3,000 photographs BYOL hardly rose above random weights in 12 epochs, so '
        'photographs could not be used.)'
    ],
    methods={'BYOL': '../byol/digits.py', 'SimCLR': '../simclr/digits.py'},
    recipe=[
        f'views={[_digit, _digit]}',
        'epochs=10',
        'warmup_epochs=2',
        'method.backbone.width=0.25',
        'data.on_device=True',
        'workers=0',
        'online_eval.every=2',
        'log_every=20',
        'checkpoint.every=5',
        'checkpoint.keep=1',
    ],
    axes={
        'views': {
            'all': [],
            'no colour': _off('jitter_p'),
            'no blur': _off('blur_p'),
            'crop only': _off('jitter_p', 'blur_p'),
        }
    },
    tune=dict(key='base_lr', factors=[0.25, 0.5, 1]),
)
