"""BYOL without its predictor, without its target network, and with other decays.

    python tools/study.py configs/studies/ablations.py --devices 0 1 2 \\
        --cfg-options data.train.download=True data.test.download=True
    python tools/study.py configs/studies/ablations.py --small --jobs 2

After tables 5a and 5b of the paper (arXiv 2006.07733). The authors' figures for ImageNet, and every
other row of these tables, are in configs/byol/README.md. The full study (CIFAR-10, ResNet-18) is
not measured; results of the small version (digits) are in docs/studies.md.
"""

title = 'What BYOL needs: predictor, target network, decay'
question = (
    'Which parts of BYOL keep it from collapsing, and how much does the decay of the target matter?'
)
caveats = [
    'After tables 5a and 5b of BYOL, on small images: the authors used ImageNet, ResNet-50 and '
    '300 epochs. A collapse that needs more steps than are trained here does not show.'
]


def _rows(config, *decays):
    """Return BYOL with its config's decay, BYOL without some of its parts, and other decays."""
    ablation = 'method.type=BYOLAblation'
    return {
        'BYOL': config,
        'no predictor': dict(config=config, options=[ablation, 'method.pred_layers=0']),
        'no target network': dict(config=config, options=[ablation, 'method.target=stop_gradient']),
        'no target, no stop-gradient': dict(
            config=config, options=[ablation, 'method.target=gradient']
        ),
        **{
            f'decay {decay}': dict(config=config, options=[f'method.base_ema={decay}'])
            for decay in decays
        },
        'decay 1 (random target)': dict(config=config, options=['method.base_ema=1']),
    }


_view = dict(
    size=32,
    crop=(0.2, 1.0),
    flip_p=0.5,
    jitter=(0.4, 0.4, 0.2, 0.1),
    jitter_p=0.8,
    gray_p=0.2,
)
methods = _rows('../byol/r18_cifar10_200ep.py', 0.9, 0.999)  # the config has 0.99
recipe = [
    f'views={[_view, _view]}',
    'epochs=200',
    'batch_size=256',
    'online_eval.every=20',
    'checkpoint.every=20',
    'checkpoint.keep=1',
]
seeds = [0, 1, 2]
tune = dict(key='base_lr', factors=[0.5, 1, 2], options=['epochs=100'])
evaluate = dict(labels=[])

small = dict(
    methods=_rows('../byol/digits.py', 0.5, 0.99),
    recipe=[
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
    tune=dict(key='base_lr', factors=[0.25, 0.5, 1]),
)
