"""Every method of the zoo on CIFAR-10: ResNet-18, 200 epochs, 3 seeds.

    python tools/study.py configs/studies/cifar10.py --devices 0 1 2 3 \\
        --cfg-options data.train.download=True data.test.download=True
    python tools/study.py configs/studies/cifar10.py --small --jobs 2 \\
        --cfg-options data.train.download=True data.test.download=True

All methods share images, hold-out, backbone, batches of 256, epochs, warm-up and normalisation, and
all methods that take any two views share the same two views. ReSSL (a strong and a weak view) and
MYOW (four views) keep their own views. Each method has its own (configs/<method>/r18_cifar10.py)
heads, loss, optimizer, weight decay and shape of the schedule, and SimCLR has its own
zero_init_last, which changes the start of its backbone. The learning rate is the best of three on
the hold-out.

The small version is BYOL, SimCLR and MoCo v2 on two CPU cores. The full study is not measured;
results of the small version are in docs/studies.md.
"""

title = 'All methods on CIFAR-10'
question = (
    'With the same ResNet-18, views, epochs and batch, which method gives the best features of '
    'CIFAR-10, and at what cost?'
)
caveats = [
    'CIFAR-10 at 32 pixels favours other settings than ImageNet; what holds here need not hold '
    'there.',
    'Hyper-parameters besides the learning rate come from recipes for other budgets '
    '(configs/<method>/r18_cifar10.py).',
]

_view = dict(
    size=32,
    crop=(0.2, 1.0),
    flip_p=0.5,
    jitter=(0.4, 0.4, 0.2, 0.1),
    jitter_p=0.8,
    gray_p=0.2,
)
_views = [f'views={[_view, _view]}']
_two_views = dict(
    byol='BYOL',
    simclr='SimCLR',
    moco='MoCo v2',
    mocov3='MoCo v3',
    simsiam='SimSiam',
    barlow_twins='Barlow Twins',
    vicreg='VICReg',
    dcl='DCL',
    nnclr='NNCLR',
    tico='TiCo',
    w_mse='W-MSE',
    swav='SwAV',
    dino='DINO',
)
_configs = {'byol': 'r18_cifar10_200ep'}  # for others configs/<method>/r18_cifar10.py
# Changes that 200 epochs need in recipes for 800 and 1000 epochs.
_changes = {
    'nnclr': ['method.queue_size=4096'],  # lightly for batches of 128; 8192 for 512
    'w_mse': ['schedule.milestones=(190, 195)'],  # as 950, 975 of 1000
}
methods = {
    name: dict(
        config=f'../{key}/{_configs.get(key, "r18_cifar10")}.py',
        options=_views + _changes.get(key, []),
    )
    for key, name in _two_views.items()
}
methods['W-MSE']['trial'] = ['schedule.milestones=(95, 97.5)']
methods['ReSSL'] = '../ressl/r18_cifar10.py'
methods['MYOW'] = dict(
    config='../myow/r18_cifar10.py',
    options=['method.from_epoch=25', 'method.full_epoch=27.5'],  # as 100, 110 of 800
)

recipe = [
    'epochs=200',
    'batch_size=256',
    'warmup_epochs=10',
    'method.backbone.stem_padding=1',  # solo-learn pads by 2
    'data.mean=(0.4914, 0.4822, 0.4465)',
    'data.std=(0.2470, 0.2435, 0.2616)',
    'online_eval.every=20',
    'checkpoint.every=20',
    'checkpoint.keep=1',
]
seeds = [0, 1, 2]
tune = dict(key='base_lr', factors=[0.5, 1, 2], options=['epochs=100'])
evaluate = dict(
    k=[20, 200],
    temperature=[0.07, 0.1],
    linear='byol',
    linear_recipe=dict(crop=(0.2, 1.0), batch_size=256),
    finetune=dict(epochs=[50], batch_size=256, crop=(0.2, 1.0)),
)

_crop = dict(crop=(0.2, 1.0))
small = dict(
    title='Three methods on a fifth of CIFAR-10',
    question='How do BYOL, SimCLR and MoCo v2 compare with the same small network, views, epochs '
    'and batch on 10,000 photographs, trained on two CPU cores?',
    caveats=[
        'It can show that the methods learn from photographs at this budget, what they cost, and '
        'differences that are large against the deviation over seeds.',
        'It cannot show which method is better at the published scale: a network of 0.3 M '
        'parameters instead of 11 M, 10,000 images instead of 50,000 and a hundredth of the '
        'epochs. Published accuracies at 1000 epochs are 40 points higher, and their order may '
        'be another.',
    ],
    methods={
        'BYOL': dict(
            config='../byol/r18_cifar10_20ep.py',
            options=['method.hidden_dim=1024', 'method.base_ema=0.97'],
        ),
        'SimCLR': dict(config='../simclr/r18_cifar10.py', options=['weight_decay=1e-4']),
        'MoCo v2': dict(
            config='../moco/r18_cifar10.py',
            options=[
                'method.hidden_dim=512',
                'method.queue_size=1024',
                'method.bn_splits=4',
                'base_lr=0.12',
            ],
        ),
    },
    recipe=[
        *_views,
        'epochs=10',
        'batch_size=128',
        'warmup_epochs=1',
        'method.backbone.width=0.25',
        'method.backbone.layers=(1, 1, 1, 1)',
        'data.mean=(0.4914, 0.4822, 0.4465)',
        'data.std=(0.2470, 0.2435, 0.2616)',
        'data.train.limit=12000',
        'data.val=2000',
        'data.train_on_val=False',
        'workers=0',
        'online_eval.every=2',
        'online_eval.bank=4000',
        'online_eval.queries=1000',
        'checkpoint.every=5',
        'checkpoint.keep=1',
    ],
    tune=dict(key='base_lr', factors=[1, 2.5, 6], options=['epochs=5']),
    evaluate=dict(
        precision='bf16',
        finetune={
            '1%': dict(_crop, lrs=[0.1, 0.3], epochs=[50], batch_size=32),
            '10%': dict(_crop, lrs=[0.05, 0.15], epochs=[20], batch_size=64),
        },
    ),
)
