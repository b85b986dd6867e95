"""BYOL and five other methods on scikit-learn's digits: a whole study in minutes on a CPU.

    python tools/study.py configs/studies/digits.py --jobs 2

Needs no download. All methods share backbone, epochs, batch, views and LARS. Each keeps its own
heads and loss (configs/<method>/digits.py) and chooses from the same three learning rates.
"""

title = 'Six methods on the digits'
question = (
    'With the same backbone, views, epochs, batch and number of trials, which method gives the '
    'best features of 8x8 digits?'
)
caveats = [
    'It can show that a method learns at this budget, what it costs, and differences that are '
    'large against the deviation over seeds.',
    'It cannot show which method is better on photographs: 1,257 grey images of 8x8 pixels, a '
    'network of 0.3 M parameters and 10 epochs are far from the conditions that the methods were '
    'made for, and the small numbers of test images and seeds leave wide intervals.',
    'Heads and other settings are those of configs/<method>/digits.py; some of those of MoCo, '
    'SimSiam and Barlow Twins were chosen after figures of the same test images were known, as '
    'their headers say.',
]

methods = {
    'BYOL': '../byol/digits.py',
    'SimCLR': '../simclr/digits.py',
    'MoCo v2': '../moco/digits.py',
    'SimSiam': '../simsiam/digits.py',
    'Barlow Twins': '../barlow_twins/digits.py',
    'VICReg': '../vicreg/digits.py',
}
recipe = [
    'epochs=10',
    'warmup_epochs=2',
    'batch_size=64',
    'base_lr=8',
    'weight_decay=1e-6',
    'method.backbone.width=0.25',
    'views.0.crop=(0.6, 1.0)',
    'views.1.crop=(0.6, 1.0)',
    'data.on_device=True',
    'workers=0',
    'online_eval.every=2',
    'log_every=20',
    'checkpoint.every=5',
    'checkpoint.keep=1',
]
seeds = [0, 1, 2]
tune = dict(key='base_lr', factors=[0.25, 0.5, 1])
_light = dict(batch_size=32, crop=(0.6, 1.0), flip_p=0.0)
evaluate = dict(
    finetune={
        '1%': dict(lrs=[0.2, 0.5], epochs=[50], **_light),
        '10%': dict(lrs=[0.1, 0.3], epochs=[20], **_light),
    }
)
