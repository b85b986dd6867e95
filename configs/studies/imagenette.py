"""Every method of the zoo on photographs: Imagenette at 128 px, ResNet-18, 200 epochs, 3 seeds.

    python tools/study.py configs/studies/imagenette.py --devices 0 1 2 3
    python tools/study.py configs/studies/imagenette.py --small --jobs 2

configs/_base_/imagenette.py says where the photographs come from. All methods share images,
hold-out, backbone, batches of 256, epochs, warm-up and evaluation, and all methods that take any
two views share the same two views. ReSSL (a strong and a weak view) and MYOW (four views) keep
their own views. Each method has its own (configs/<method>/r18_imagenette.py) heads, loss,
optimizer, weight decay and shape of the schedule. The decay of a target network that rises to 1
follows from the number of steps (base_ema='auto'). The learning rate is the best of three on the
hold-out.

The small version is four methods on two CPU cores, at 64 px: BYOL, SimCLR, MoCo v2 and SwAV. The
full study is not measured.
"""

title = 'All methods on Imagenette'
question = (
    'With the same ResNet-18, views, epochs and batch, which method gives the best features of '
    'photographs, and at what cost?'
)
caveats = [
    'Imagenette has ten classes that are easy to tell apart, and 9,469 training photographs: what '
    'holds here need not hold on ImageNet.',
    'Hyper-parameters besides the learning rate and the decay of the target come from recipes for '
    '800 and 1000 epochs (configs/<method>/r18_imagenette.py); SwAV and DINO have two crops here '
    'and eight there, W-MSE two and four.',
]

_view = dict(
    size=128,
    crop=(0.2, 1.0),
    flip_p=0.5,
    jitter=(0.4, 0.4, 0.2, 0.1),
    jitter_p=0.8,
    gray_p=0.2,
    blur_p=0.5,
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
_auto = ['method.base_ema=auto']
# Changes that 200 epochs need in recipes for 800 and 1000 epochs.
_changes = {
    'byol': _auto,
    'mocov3': _auto,
    'dino': _auto,
    'tico': _auto,
    'w_mse': ['schedule.milestones=(190, 195)'],  # as 950, 975 of 1000
}
methods = {
    name: dict(config=f'../{key}/r18_imagenette.py', options=_views + _changes.get(key, []))
    for key, name in _two_views.items()
}
methods['W-MSE']['trial'] = ['schedule.milestones=(95, 97.5)']
methods['ReSSL'] = '../ressl/r18_imagenette.py'
methods['MYOW'] = dict(
    config='../myow/r18_imagenette.py',
    options=[*_auto, 'method.from_epoch=25', 'method.full_epoch=27.5'],  # as 100, 110 of 800
)

recipe = [
    'epochs=200',
    'batch_size=256',
    'warmup_epochs=10',
    'data.eval_resize=128',
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
    linear_recipe=dict(batch_size=256),
    finetune=dict(epochs=[50], batch_size=256),
)

_small_view = dict(
    size=64,
    crop=(0.2, 1.0),
    interpolation='bilinear',
    flip_p=0.5,
    jitter=(0.4, 0.4, 0.2, 0.1),
    jitter_p=0.8,
    gray_p=0.2,
)
_small_views = [f'views={[_small_view, _small_view]}']
small = dict(
    title='Four methods on half of Imagenette',
    question='How do BYOL, SimCLR, MoCo v2 and SwAV compare with the same small network, views, '
    'epochs and batch on 4,000 photographs, trained on two CPU cores?',
    caveats=[
        'It can show that the methods learn from photographs at this budget, what they cost, and '
        'differences that are large against the deviation over seeds.',
        'It cannot show which method is better at the published scale: a network of 0.3 M '
        'parameters instead of 11 M, 64 px instead of 128, less than half of the photographs and a '
        'hundredth of the epochs.',
        'Learning rates, heads and the number of prototypes are not those of '
        'configs/<method>/r18_imagenette.py, which are for 29,590 steps and more; here are 500.',
    ],
    methods={
        'BYOL': dict(
            config='../byol/r18_imagenette.py',
            options=['method.hidden_dim=1024', *_auto, 'base_lr=4'],
        ),
        'SimCLR': dict(config='../simclr/r18_imagenette.py', options=['base_lr=0.24']),
        'MoCo v2': dict(
            config='../moco/r18_imagenette.py',
            options=['method.hidden_dim=512', 'method.queue_size=1024', 'base_lr=0.24'],
        ),
        'SwAV': dict(
            config='../swav/r18_imagenette.py',
            options=['method.hidden_dim=512', 'method.prototypes=300', 'base_lr=4e-3'],
        ),
    },
    recipe=[
        *_small_views,
        'epochs=8',
        'batch_size=64',
        'warmup_epochs=0.5',
        'method.backbone.width=0.25',
        'method.backbone.layers=(1, 1, 1, 1)',
        'data.train.limit=5000',
        'data.val=1000',
        'data.train_on_val=False',
        'data.eval_resize=64',
        'precision=float32',  # few CPUs compute in bf16
        'workers=0',
        'online_eval.every=4',
        'online_eval.bank=2000',
        'checkpoint.every=4',
        'checkpoint.keep=1',
    ],
    tune=dict(key='base_lr', factors=[0.5, 1, 2], options=['epochs=3', 'online_eval.every=3']),
    evaluate=dict(labels=[]),
)
