"""The config of an imported checkpoint: its networks, and the data set that most likely fits."""

from ssl_zoo.config.builtin_values import to_builtin
from ssl_zoo.interop.foreign_checkpoint import ForeignCheckpoint

# Normalisation of solo-learn (solo/data/pretrain_dataloader.py).
SOLO_LEARN_NORMALISATION = dict(
    CIFAR10=dict(mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616)),
    CIFAR100=dict(mean=(0.5071, 0.4865, 0.4409), std=(0.2673, 0.2564, 0.2762)),
)
# Normalisation of SwAV: std 0.228, where other libraries have 0.229 (facebookresearch/swav,
# src/multicropdataset.py and eval_linear.py).
SWAV_NORMALISATION = dict(mean=(0.485, 0.456, 0.406), std=(0.228, 0.224, 0.225))


def imported_config(
    backbone: dict, projector: list | None, found: ForeignCheckpoint, source: dict
) -> dict:
    """Return a config of the method Imported, made of plain values.

    The data are ImageNet's folders; for a network with a CIFAR stem the data are CIFAR-10, unless
    the file names CIFAR-100. Optimizer, epochs, batch size and learning rate are placeholders: the
    settings require them, but imported weights are not trained.

    Args:
        backbone: arguments of build_backbone.
        projector: layers for build_projector, None for no projector.
        found: the foreign checkpoint.
        source: origin of the weights, for the config's ``method.source``.
    """
    is_cifar = backbone.get('stem') == 'cifar'
    size = backbone.get('img_size', 32 if is_cifar else 224)
    method = dict(
        type='Imported',
        backbone=backbone,
        projector=projector,
        target='target' in found.networks,
        main=found.main,
        source=source,
    )
    config = dict(
        method=method,
        data=_cifar(found) if is_cifar else _imagenet(found),
        views=[dict(size=size)],
        optimizer=dict(type='SGD'),
        epochs=1,
        batch_size=256,
        base_lr=1.0,
        online_eval=dict(every=0),
    )
    return to_builtin(config)


def _cifar(found: ForeignCheckpoint) -> dict:
    name = 'CIFAR100' if found.dataset == 'cifar100' else 'CIFAR10'
    root = f'data/{name.lower()}'
    data = dict(
        train=dict(type=name, root=root),
        val=5000,
        train_on_val=True,
        test=dict(type=name, root=root, split='test'),
    )
    if found.layout == 'solo_learn':
        data.update(SOLO_LEARN_NORMALISATION[name])
    return data


def _imagenet(found: ForeignCheckpoint) -> dict:
    data = dict(
        train=dict(type='ImageFolder', root='data/imagenet/train'),
        val=10009,
        train_on_val=True,
        test=dict(type='ImageFolder', root='data/imagenet/val'),
    )
    if found.layout == 'swav':
        data.update(SWAV_NORMALISATION)
    return data
