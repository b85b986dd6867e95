"""ssl_zoo/interop/import_checkpoint.py: every layout against the network it was saved from; files
that are something else, and that lie."""

import argparse
import collections
import contextlib
import hashlib
import os
import pickle
import shlex
import struct
import sys
import time
import tracemalloc
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from ssl_zoo.build import build_method, load_method
from ssl_zoo.checkpoint import read_checkpoint
from ssl_zoo.errors import ConfigError
from ssl_zoo.interop.import_checkpoint import FILE, import_checkpoint
from ssl_zoo.interop.layouts import find_networks
from ssl_zoo.interop.safe_unpickling import InertObject, LazyTensor, read_foreign
from ssl_zoo.registry import METHODS


class TinyResNet(ResNet):
    """torchvision's own ResNet with an eighth of the channels."""

    def __init__(self, block=BasicBlock, layers=(1, 1, 1, 1), cifar_padding=None):
        super().__init__(block, list(layers))
        self.fc = nn.Identity()
        if cifar_padding is not None:
            self.conv1 = nn.Conv2d(3, 8, 3, 1, cifar_padding, bias=False)
            self.maxpool = nn.Identity()
        stir(self)

    @property
    def inplanes(self):
        return self._inplanes

    @inplanes.setter
    def inplanes(self, value):
        self.__dict__['_inplanes'] = value if '_inplanes' in self.__dict__ else value // 8

    def _make_layer(self, block, planes, *arguments, **more):
        return super()._make_layer(block, planes // 8, *arguments, **more)


def stir(network: nn.Module) -> nn.Module:
    """Statistics, scales and biases that are not those of a new network, so that leaving one out
    shows."""
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if name.endswith(
                ('running_var', 'bn1.weight', 'bn2.weight', 'bn3.weight', 'downsample.1.weight')
            ):
                value.uniform_(0.5, 1.5)
            elif name.endswith('running_mean') or value.ndim == 1:
                value.normal_(std=0.3)
    return network.eval()


def head(*dims, last_norm=False, activation=nn.ReLU, norm=True) -> nn.Sequential:
    layers = []
    for i, (a, b) in enumerate(zip(dims, dims[1:], strict=False)):
        layers.append(nn.Linear(a, b))
        if i < len(dims) - 2:
            layers += [*([nn.BatchNorm1d(b)] if norm else []), activation()]
    return stir(
        nn.Sequential(*layers, *([nn.BatchNorm1d(dims[-1], affine=False)] if last_norm else []))
    )


def vit(heads=3, width=24, **more) -> VisionTransformer:
    return stir(
        VisionTransformer(
            img_size=32,
            patch_size=8,
            embed_dim=width,
            depth=2,
            num_heads=heads,
            num_classes=0,
            **more,
        )
    )


def under(prefix: str, *networks) -> dict:
    """The state of networks, each (name, network), under a prefix."""
    return {
        f'{prefix}{name}{key}': value
        for name, network in networks
        for key, value in network.state_dict().items()
    }


class Case:
    """What a layout's file holds, and what the networks in it are. ``networks``: role -> (backbone,
    projector)."""

    def __init__(self, content, networks, main='online', backbone=None, size=32, left=()):
        self.content, self.networks, self.main, self.backbone, self.size, self.left = (
            content,
            networks,
            main,
            backbone,
            size,
            left,
        )


def pairs(block=BasicBlock, dims=(16, 8), width=None, **more):
    width = width or 64 * (4 if block is Bottleneck else 1)
    return [(TinyResNet(block), head(width, *dims, **more)) for _ in range(2)]


def moco():
    (q, fq), (k, fk) = pairs(Bottleneck, norm=False)
    state = under('module.encoder_q.', ('', q), ('fc.', fq)) | under(
        'module.encoder_k.', ('', k), ('fc.', fk)
    )
    state |= {
        'module.queue': torch.randn(8, 4),
        'module.queue_ptr': torch.zeros(1, dtype=torch.long),
    }
    return Case(
        dict(
            epoch=200, arch='resnet50', state_dict=state, optimizer=dict(state={}, param_groups=[])
        ),
        dict(online=(q, fq), target=(k, fk)),
        left=['queue', 'queue_ptr', 'optimizer'],
    )


def moco_v1():
    q, f = TinyResNet(), nn.Linear(64, 8)
    return Case(
        dict(state_dict=under('module.encoder_q.', ('', q), ('fc.', f))), dict(online=(q, f))
    )


def mocov3_resnet():
    (q, fq), (k, fk) = pairs(Bottleneck, last_norm=True)
    state = under('module.base_encoder.', ('', q), ('fc.', fq)) | under(
        'module.momentum_encoder.', ('', k), ('fc.', fk)
    )
    return Case(
        dict(state_dict=state | under('module.predictor.', ('', head(8, 16, 8)))),
        dict(online=(q, fq), target=(k, fk)),
        left=['predictor'],
    )


def mocov3_vit():
    q, k = vit(heads=12, width=384), vit(heads=12, width=384)  # its ViT-S has 12 heads, timm's 6
    fq, fk = head(384, 16, 16, 8), head(384, 16, 16, 8)
    state = under('module.base_encoder.', ('', q), ('head.', fq)) | under(
        'module.momentum_encoder.', ('', k), ('head.', fk)
    )
    return Case(dict(state_dict=state), dict(online=(q, fq), target=(k, fk)))


def simsiam():
    (f, h), _ = pairs(dims=(64, 64, 16), last_norm=True)
    state = under('module.encoder.', ('', f), ('fc.', h)) | under(
        'module.predictor.', ('', head(16, 8, 16))
    )
    return Case(dict(epoch=100, state_dict=state), dict(online=(f, h)), left=['predictor'])


def barlow_twins():
    (f, h), _ = pairs(dims=(32, 32, 32))
    state = under(
        'module.', ('backbone.', f), ('projector.', h), ('bn.', nn.BatchNorm1d(32, affine=False))
    )
    return Case(
        dict(epoch=1000, model=state, optimizer=dict(state={})),
        dict(online=(f, h)),
        left=['bn', 'optimizer'],
    )


def vicreg():
    (f, h), _ = pairs(dims=(32, 32, 32))
    return Case(
        dict(epoch=1000, model=under('module.', ('backbone.', f), ('projector.', h)), optimizer={}),
        dict(online=(f, h)),
    )


def swav():
    (f, h), _ = pairs(dims=(32, 16))
    return Case(
        under(
            'module.',
            ('', f),
            ('projection_head.', h),
            ('prototypes.', nn.Linear(16, 30, bias=False)),
        ),
        dict(online=(f, h)),
        left=['prototypes'],
    )


def dino_vit():
    (s, hs), (t, ht) = [
        (vit(), head(24, 32, 32, 16, activation=nn.GELU, norm=False)) for _ in range(2)
    ]
    last = {
        'head.last_layer.weight_g': torch.ones(30, 1),
        'head.last_layer.weight_v': torch.randn(30, 16),
    }
    student = under('module.', ('backbone.', s), ('head.mlp.', hs)) | {
        f'module.{key}': value for key, value in last.items()
    }
    teacher = under('', ('backbone.', t), ('head.mlp.', ht)) | last
    return Case(
        dict(
            student=student,
            teacher=teacher,
            epoch=100,
            args=argparse.Namespace(arch='vit_small'),
            optimizer={},
            dino_loss={},
        ),
        dict(online=(s, hs), target=(t, ht)),
        main='target',
        backbone="{'num_heads': 3}",
        left=['student (2 names)', 'args'],
    )


def dino_plain_vit():
    f = vit()
    return Case(f.state_dict(), dict(online=(f, None)), backbone="{'num_heads': 3}")


def solo_learn_weights():
    (f, h), (k, hk) = [(TinyResNet(cifar_padding=2), head(64, 32, 16)) for _ in range(2)]
    state = under(
        '',
        ('backbone.', f),
        ('projector.', h),
        ('momentum_backbone.', k),
        ('momentum_projector.', hk),
        ('classifier.', nn.Linear(64, 10)),
        ('predictor.', head(16, 8, 16)),
    )
    return state, dict(online=(f, h), target=(k, hk))


def solo_learn():
    state, networks = solo_learn_weights()
    content = {
        'epoch': 999,
        'global_step': 195000,
        'pytorch-lightning_version': '1.6.4',
        'state_dict': state,
        'callbacks': {},
        'hyper_parameters': collections.defaultdict(
            dict, method=argparse.Namespace(name='byol'), method_kwargs={}
        ),
    }
    return Case(content, networks, left=['classifier', 'predictor', 'hyper_parameters'])


def solo_learn_bare():
    """Without Lightning's key, and with a stem that only solo-learn pads by 2."""
    state, networks = solo_learn_weights()
    return Case(dict(state_dict=state), networks)


def solo_learn_online():
    f, h = TinyResNet(cifar_padding=2), head(64, 32, 16)
    state = under('', ('backbone.', f), ('projector.', h))
    content = dict(state_dict=state, hyper_parameters=dict(pretrain_method='byol'))
    return Case(content, dict(online=(f, h)))


def lightly():
    (f, h), (k, hk) = pairs(Bottleneck)
    state = {}
    for name, network in (('backbone.', f), ('backbone_momentum.', k)):
        state |= under(name, ('', nn.Sequential(*list(network.children())[:-1])))
    state |= under(
        '',
        ('projection_head.layers.', h),
        ('projection_head_momentum.layers.', hk),
        ('prediction_head.layers.', head(8, 8, 8)),
    )
    return Case(
        {'pytorch-lightning_version': '2.0', 'state_dict': state},
        dict(online=(f, h), target=(k, hk)),
        left=['prediction_head'],
    )


def lightly_dino():
    (s, hs), (t, ht) = pairs(dims=(32, 16), activation=nn.GELU, norm=False)
    state = under(
        '',
        ('backbone.', t),
        ('student_backbone.', s),
        ('projection_head.layers.', ht),
        ('student_projection_head.layers.', hs),
    )
    for name in ('', 'student_'):
        state[f'{name}projection_head.last_layer.weight_v'] = torch.randn(30, 16)
    return Case(
        {'pytorch-lightning_version': '2.0', 'state_dict': state},
        dict(online=(s, hs), target=(t, ht)),
        main='target',
    )


def lightly_mocov2():
    """benchmarks/imagenet/resnet50/mocov2.py: the query networks are trained, and what is called
    backbone follows them."""
    (q, hq), (k, hk) = pairs()
    state = under(
        '',
        ('backbone.', k),
        ('projection_head.layers.', hk),
        ('query_backbone.', q),
        ('query_projection_head.layers.', hq),
    )
    return Case(
        {'pytorch-lightning_version': '2.0', 'state_dict': state},
        dict(online=(q, hq), target=(k, hk)),
        main='target',
    )


def lightly_simclr():
    (f, h), _ = pairs()
    return Case(
        {
            'pytorch-lightning_version': '2.0',
            'state_dict': under('', ('backbone.', f), ('projection_head.layers.', h)),
        },
        dict(online=(f, h)),
    )


def lightly_benchmark():
    (f, h), (k, hk) = pairs()
    state = under(
        '',
        ('backbone.', f),
        ('projection_head.layers.', h),
        ('teacher_backbone.', k),
        ('teacher_projection_head.layers.', hk),
    )
    return Case(
        {'pytorch-lightning_version': '2.0', 'state_dict': state},
        dict(online=(f, h), target=(k, hk)),
    )


def neck(sequential: nn.Sequential) -> dict:
    """mmpretrain's NonLinearNeck: fc0, bn0, fc1 ..."""
    names = {'0': 'fc0', '1': 'bn0', '3': 'fc1', '4': 'bn1'}
    return {
        f'{names[key.split(".")[0]]}.{key.split(".")[1]}': value
        for key, value in sequential.state_dict().items()
    }


def mmpretrain():
    (f, h), (k, hk) = pairs(Bottleneck, last_norm=True)
    state = (
        under('backbone.', ('', f))
        | {f'neck.{key}': value for key, value in neck(h).items()}
        | under('target_net.module.0.', ('', k))
        | {f'target_net.module.1.{key}': value for key, value in neck(hk).items()}
    )
    state |= {
        'head.predictor.fc0.weight': torch.randn(4, 4),
        'data_preprocessor.mean': torch.ones(3, 1, 1),
        'target_net.steps': torch.tensor(5),
    }
    history = type('HistoryBuffer', (), {'__module__': 'mmengine.logging.history_buffer'})
    return Case(
        dict(
            meta=dict(epoch=200),
            state_dict=state,
            message_hub=dict(log=np.arange(4.0)),
            kind=named(history)(),
        ),
        dict(online=(f, h), target=(k, hk)),
        left=['head', 'data_preprocessor', 'meta'],
    )


def mmpretrain_vit():
    f, state = vit(), {}
    for name, value in f.state_dict().items():
        for old, new in (
            ('blocks.', 'layers.'),
            ('norm', 'ln'),
            ('mlp.fc1', 'ffn.layers.0.0'),
            ('mlp.fc2', 'ffn.layers.1'),
            ('patch_embed.proj', 'patch_embed.projection'),
        ):
            name = name.replace(old, new)
        state['backbone.' + ('ln1' + name[2:] if name.startswith('ln.') else name)] = value
    return Case(
        dict(meta={}, state_dict=state), dict(online=(f, None)), backbone="{'num_heads': 3}"
    )


def mmselfsup():
    (f, h), (k, hk) = [(TinyResNet(), head(64, 16, 8)) for _ in range(2)]
    state = (
        under('online_net.0.', ('', f))
        | {f'online_net.1.{key}': value for key, value in neck(h).items()}
        | under('target_net.0.', ('', k))
        | {f'target_net.1.{key}': value for key, value in neck(hk).items()}
    )
    return Case(dict(meta={}, state_dict=state), dict(online=(f, h), target=(k, hk)))


def torchvision():
    f = TinyResNet(Bottleneck)
    return Case(
        f.state_dict() | {'fc.weight': torch.randn(10, 256), 'fc.bias': torch.randn(10)},
        dict(online=(f, None)),
        left=['fc'],
    )


CASES = {
    case.__name__: (case, layout)
    for layout, case in [
        ('moco', moco),
        ('moco', moco_v1),
        ('mocov3', mocov3_resnet),
        ('mocov3', mocov3_vit),
        ('simsiam', simsiam),
        ('barlow_twins', barlow_twins),
        ('vicreg', vicreg),
        ('swav', swav),
        ('dino', dino_vit),
        ('timm', dino_plain_vit),
        ('solo_learn', solo_learn),
        ('lightly', lightly),
        ('lightly', lightly_dino),
        ('lightly', lightly_benchmark),
        ('lightly', lightly_simclr),
        ('lightly', lightly_mocov2),
        ('solo_learn', solo_learn_bare),
        ('solo_learn', solo_learn_online),
        ('mmpretrain', mmpretrain),
        ('mmpretrain', mmpretrain_vit),
        ('mmpretrain', mmselfsup),
        ('torchvision', torchvision),
    ]
}


def named(cls: type) -> type:
    """The class where pickle finds it while it writes; ``gone`` takes it away again."""
    *_, module = parts = cls.__module__.split('.')
    for i in range(len(parts)):
        sys.modules.setdefault('.'.join(parts[: i + 1]), types.ModuleType('.'.join(parts[: i + 1])))
    setattr(sys.modules[cls.__module__], cls.__name__, cls)
    return cls


def saved(content, path: Path, **how) -> Path:
    torch.save(content, path, **how)
    return path


@pytest.fixture(
    params=[
        name if i % 3 == 0 else pytest.param(name, marks=pytest.mark.long)
        for i, name in enumerate(CASES)  # a third of the layouts; the others are long tests
    ]
)
def case(request):
    make, layout = CASES[request.param]
    case = make()
    case.layout = layout
    return case


def test_every_layout_gives_the_networks_it_was_saved_from(case, tmp_path):
    file = saved(case.content, tmp_path / 'theirs.pth')
    report = import_checkpoint(file, tmp_path / 'out', backbone=case.backbone)
    method, settings, _ = load_method(report.path)
    assert settings.method['source']['layout'] == case.layout
    assert set(method.networks) == set(case.networks) and method.main_network == case.main
    images = torch.randn(3, 3, case.size, case.size)
    for role, (backbone, projector) in case.networks.items():
        with torch.no_grad():
            features = backbone.eval()(images)
            torch.testing.assert_close(method.encoder(role)(images), features, atol=1e-5, rtol=1e-5)
            if projector is not None:
                torch.testing.assert_close(
                    method.encoder(role, 'projector')(images),
                    projector.eval()(features),
                    atol=1e-5,
                    rtol=1e-5,
                )
        assert all(p.requires_grad == (role == 'online') for p in method.encoder(role).parameters())
    assert torch.equal(method.encoder()(images), method.encoder(case.main)(images))
    left = next(line for line in report.lines if line.startswith('left out'))
    assert not [name for name in case.left if name not in left], left
    # The layout can be said, and a wrong one is answered.
    content = read_foreign(file)
    assert find_networks(content, case.layout).networks.keys() == case.networks.keys()
    with pytest.raises(ConfigError, match='the layout is .mocco.: did you mean .moco'):
        find_networks(content, 'mocco')
    wrong = 'simsiam' if case.layout != 'simsiam' else 'mocov3'
    with pytest.raises(
        ConfigError, match=rf'does not look like {wrong} \(facebookresearch/.*try --layout auto'
    ):
        find_networks(content, wrong)
    assert case.left or case.layout == 'dino' or 'conv1' not in left and 'layer1' not in left


@pytest.mark.parametrize(
    ('size', 'block', 'layers', 'expected'),
    [
        ('resnet18', BasicBlock, (2, 2, 2, 2), {}),
        ('resnet34', BasicBlock, (3, 4, 6, 3), {}),
        ('resnet50', Bottleneck, (3, 4, 6, 3), {}),
        ('resnet50', Bottleneck, (1, 2, 1, 1), dict(layers=[1, 2, 1, 1])),
    ],
)
def test_the_backbone_is_as_the_shapes_show_it(tmp_path, size, block, layers, expected):
    file = saved(TinyResNet(block, layers).state_dict(), tmp_path / 'theirs.pth')
    config = read_checkpoint(import_checkpoint(file, tmp_path / 'out').path)['config']
    assert config['method']['backbone'] == dict(name=size, width=0.125, **expected)


def test_where_it_is_from_is_kept_and_its_data_can_be_changed(tmp_path):
    case = solo_learn()
    file = saved(case.content, tmp_path / 'byol-cifar10.ckpt')
    path = import_checkpoint(
        file, tmp_path / 'out', options=['data.train.root=/elsewhere', 'data.val=7']
    ).path
    content = read_checkpoint(path)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    source = dict(file='byol-cifar10.ckpt', sha256=digest, layout='solo_learn', steps=195000)
    assert content['config']['method']['source'] == source and content['step'] == 195000
    _, settings, step = load_method(path, ['data.test.root=/third'])
    assert step == 195000 and settings.eval_geometry() == (32, 32)
    assert settings.data.train == dict(type='CIFAR10', root='/elsewhere') and settings.data.val == 7
    assert settings.data.test['root'] == '/third'
    assert settings.data.mean == (0.4914, 0.4822, 0.4465) and settings.data.std == (
        0.2470,
        0.2435,
        0.2616,
    )
    for option in ('epochs=3', 'method.main=target'):
        with pytest.raises(ConfigError, match='an import can change data'):
            import_checkpoint(file, tmp_path / 'other', options=[option])


def test_swavs_deviation_is_its_own(tmp_path):
    """0.228, not 0.229: facebookresearch/swav, src/multicropdataset.py and eval_linear.py."""
    settings = load_method(
        import_checkpoint(saved(swav().content, tmp_path / 'a.pth'), tmp_path / 'out').path
    )[1]
    assert settings.data.mean == (0.485, 0.456, 0.406) and settings.data.std == (
        0.228,
        0.224,
        0.225,
    )


def node(value):
    """As omegaconf keeps values and containers (omegaconf/base.py), read as InertObject."""
    inert = InertObject()
    inert.state = {'_val': value} if isinstance(value, str) else {'_content': value}
    return inert


@pytest.mark.parametrize(
    ('kept', 'dataset'),
    [
        (dict(dataset='cifar100'), 'CIFAR100'),
        (dict(dataset='cifar10'), 'CIFAR10'),
        (dict(data=dict(dataset='cifar100')), 'CIFAR100'),
        (dict(extra_args=dict(dataset='cifar100')), 'CIFAR100'),
        (dict(cfg=dict(data=dict(dataset='cifar100'))), 'CIFAR100'),
        (node(dict(data=node(dict(dataset=node('cifar100'))))), 'CIFAR100'),
        (dict(dataset=7), None),
        ([], None),
        (None, None),
    ],
)
def test_solo_learns_data_set_is_read_where_it_stands(kept, dataset):
    content = solo_learn().content | dict(hyper_parameters=kept)
    content['state_dict'] = {
        name: LazyTensor(tuple(value.shape), lambda value=value: value)
        for name, value in content['state_dict'].items()
    }
    assert find_networks(content).dataset == (dataset or '').lower()


def test_the_data_set_that_is_assumed_is_said(tmp_path):
    content = solo_learn().content
    report = import_checkpoint(saved(content, tmp_path / 'a.ckpt'), tmp_path / 'silent')
    [padding, warning] = [line for line in report.lines if line.startswith('warning')]
    assert 'padded by 2, as in solo_learn, which the weights do not show' in padding
    assert (
        'does not name its data set: CIFAR-10 is assumed; for CIFAR-100 give --cfg-options'
        in warning
    )
    options = shlex.split(warning.split('--cfg-options ')[1])
    given = import_checkpoint(tmp_path / 'a.ckpt', tmp_path / 'given', options=options)
    content['hyper_parameters'] = dict(dataset='cifar100')  # momentum_projector. is solo-learn's
    read = import_checkpoint(saved(content, tmp_path / 'b.ckpt'), tmp_path / 'read')
    for report in (given, read):
        data = load_method(report.path)[1].data
        assert data.train == dict(type='CIFAR100', root='data/cifar100') and data.test == dict(
            data.train, split='test'
        )
        assert data.mean == (0.5071, 0.4865, 0.4409) and data.std == (0.2673, 0.2564, 0.2762)
        assert [line for line in report.lines if line.startswith('warning')] == [padding]


def test_a_backbone_that_is_left_out_is_a_warning(tmp_path):
    content = dict(
        state_dict=moco_v1().content['state_dict']
        | under('module.key_backbone.', ('', TinyResNet()))
    )
    report = import_checkpoint(saved(content, tmp_path / 'a.pth'), tmp_path / 'out')
    assert [
        line
        for line in report.lines
        if line.startswith('warning    the file also has key_backbone, unknown to this layout')
    ]


def test_a_cifar_stem_of_nobody_is_asked_for(tmp_path):
    state = under('backbone.', ('', TinyResNet(cifar_padding=2)))
    lightning = {'pytorch-lightning_version': '2.0', 'state_dict': state}
    others = dict(hyper_parameters=dict(backbone='resnet18', method='byol', dataset='cifar10'))
    with_projector = state | under('projector.', ('', head(64, 32, 16)))
    for content in (
        lightning,
        lightning | others,
        with_projector,
        dict(model=with_projector),
        state,
    ):
        file = saved(content, tmp_path / 'a.pth')
        with pytest.raises(
            ConfigError,
            match='solo-learn pads it by 2, others by 1; name the library with --layout solo_learn',
        ):
            import_checkpoint(file, tmp_path / 'out')
    for layout, padding in (('solo_learn', 2), ('mmpretrain', 1)):
        path = import_checkpoint(file, tmp_path / layout, layout).path
        assert load_method(path)[0].backbone.conv1.padding == (padding, padding)


def test_imagenets_constants_and_crops_are_the_default(tmp_path):
    settings = load_method(
        import_checkpoint(saved(moco_v1().content, tmp_path / 'a.pth'), tmp_path / 'out').path
    )[1]
    assert settings.data.mean == (0.485, 0.456, 0.406) and settings.data.std == (
        0.229,
        0.224,
        0.225,
    )
    assert (
        settings.eval_geometry() == (224, 256)
        and settings.data.train['root'] == 'data/imagenet/train'
    )


def test_imported_weights_do_not_train(tmp_path):
    method, settings, _ = load_method(
        import_checkpoint(saved(moco_v1().content, tmp_path / 'a.pth'), tmp_path / 'out').path
    )
    with pytest.raises(ConfigError, match="'Imported' holds finished weights and has no loss"):
        method.loss([torch.randn(2, 3, 32, 32)])
    assert (
        METHODS.find('Imported').__module__ == 'ssl_zoo.interop.imported_method'
    )  # not one of the zoo's methods
    again = build_method(settings)
    assert not torch.equal(
        again.backbone.conv1.weight, method.backbone.conv1.weight
    )  # --random-weights


def test_a_first_convolution_of_3_px_is_a_cifar_stem(tmp_path):
    """Elsewhere than in solo-learn it pads by 1."""
    network = TinyResNet(cifar_padding=1)
    method = load_method(
        import_checkpoint(saved(network.state_dict(), tmp_path / 'a.pth'), tmp_path / 'out').path
    )[0]
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(method.encoder()(images), network(images), atol=1e-5, rtol=1e-5)


def test_half_precision_and_counters_of_old_files(tmp_path):
    """torch counted BatchNorm's batches only since 0.4.1; weights may be float16."""
    network = TinyResNet()
    state = {k: v.half() for k, v in network.state_dict().items() if 'num_batches' not in k}
    method = load_method(
        import_checkpoint(saved(state, tmp_path / 'a.pth'), tmp_path / 'out').path
    )[0]
    assert method.backbone.conv1.weight.dtype == torch.float32
    assert torch.equal(method.backbone.conv1.weight, network.conv1.weight.half().float())


@pytest.mark.parametrize(
    'how',
    [dict(_use_new_zipfile_serialization=False), dict(pickle_protocol=4), dict(pickle_protocol=5)],
)
def test_old_and_new_ways_of_saving(tmp_path, how):
    case = moco()
    views = torch.randn(20)
    case.content['more'] = dict(
        views=[views[4:10], views[::2], views.reshape(4, 5).T],
        p=nn.Parameter(torch.randn(3)),
        b=torch.tensor([True, False]),
        h=torch.randn(3).bfloat16(),
        empty=torch.zeros(0, 3),
    )
    file = saved(case.content, tmp_path / 'a.pth', **how)
    content = read_foreign(file)
    for name, value in case.content['state_dict'].items():
        assert torch.equal(content['state_dict'][name].read(), value), name
    more = case.content['more']
    for mine, theirs in zip(content['more']['views'], more['views'], strict=True):
        assert torch.equal(mine.read(), theirs) and mine.shape == tuple(theirs.shape)
    for name in ('p', 'b', 'h', 'empty'):
        assert torch.equal(content['more'][name].read(), more[name])


def test_safetensors(tmp_path):
    from safetensors.torch import save_file

    network = TinyResNet()
    save_file(
        {k: v.contiguous() for k, v in network.state_dict().items()}, tmp_path / 'a.safetensors'
    )
    method = load_method(import_checkpoint(tmp_path / 'a.safetensors', tmp_path / 'out').path)[0]
    assert torch.equal(method.backbone.layer3[0].conv1.weight, network.layer3[0].conv1.weight)


# Mistakes.


def change(state: dict, **changes) -> dict:
    out = {
        key: value
        for key, value in state.items()
        if changes.get(key.replace('.', '_'), 0) is not None
    }
    return out | {
        key: changes[key.replace('.', '_')] for key in out if key.replace('.', '_') in changes
    }


@pytest.mark.parametrize(
    ('make', 'backbone', 'sentence'),
    [
        (
            lambda s: change(s, layer2_0_bn1_weight=None),
            None,
            'online backbone in the file lacks layer2.0.bn1.weight',
        ),
        (
            lambda s: s | {'layer4.0.conv9.weight': torch.ones(1)},
            None,
            'has besides layer4.0.conv9.weight',
        ),
        (
            lambda s: change(s, layer4_0_conv2_weight=torch.ones(64, 32, 3, 3)),
            None,
            r'layer4.0.conv2.weight of shape \(64, 32, 3, 3\)',
        ),
        (
            lambda s: change(s, bn1_bias=torch.full((8,), float('nan'))),
            None,
            'bn1.bias that are not finite',
        ),
        (
            lambda s: change(s, conv1_weight=torch.ones(8)),
            None,
            'neither those of a plain ResNet nor of a ViT',
        ),
        (
            lambda s: change(s, conv1_weight=torch.ones(8, 1, 7, 7)),
            None,
            'backbone in the file does not fit: its conv1.weight takes images of 1 channels, and '
            'images are read as RGB',
        ),
        (
            lambda s: change(vit().state_dict(), patch_embed_proj_weight=torch.ones(24, 13, 8, 8)),
            "{'num_heads': 3}",
            'its patch_embed.proj.weight takes images of 13 channels',
        ),
        (lambda s: s, "{'in_chans': 1}", 'in_chans=1 of the backbone, but it must be 3'),
        (lambda s: s, 'resnet50', 'lacks layer1.0.bn3.bias.* name the model with --backbone'),
        (lambda s: s, 'resnet5O', "'resnet5O' is not a timm model: did you mean"),
        (lambda s: s, "{'name': 5}", 'name of the backbone is 5'),
        (lambda s: s, "{'width': '2'}", "width of the backbone is '2'"),
        (
            lambda s: vit().state_dict(),
            "{'num_heads': 5}",
            'timm cannot build .* with .*num_heads=5',
        ),
        (
            lambda s: vit().state_dict(),
            "{'num_heads': 3, 'patch_size': 0}",
            'timm cannot build .*patch_size=0',
        ),
        (lambda s: s, '{name: 3', 'neither a model of timm nor a dict such as'),
        (
            lambda s: {'stem.conv.weight': torch.ones(1), 'rest': torch.ones(1)},
            None,
            'fits the names.*rest, stem; tried: dino, ',
        ),
        (
            lambda s: {f'backbone.{k}'.replace('layer', '').replace('conv1', '0'): s[k] for k in s},
            None,
            'neither those of a plain ResNet',
        ),
        (
            lambda s: dict(epoch=3, loss=0.5),
            None,
            r'holds no tensors by name \(it is a mapping with epoch, loss\)',
        ),
        (lambda s: [1, 2], None, 'holds no tensors by name .it is list'),
    ],
)
def test_a_file_of_something_else_gets_a_sentence_and_leaves_nothing(
    tmp_path, make, backbone, sentence
):
    file = saved(make(TinyResNet().state_dict()), tmp_path / 'a.pth')
    with pytest.raises(ConfigError, match=sentence):
        import_checkpoint(file, tmp_path / 'out', backbone=backbone)
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
    ('content', 'sentence'),
    [
        (None, 'there is no file at'),
        (b'', 'not a checkpoint that can be read .EOFError'),
        (b'PK\x03\x04 torn', 'that can be read'),
        (b'<html>404</html>', 'not a checkpoint that can be read'),
        (b'\x80\x02K\x05.', 'holds no tensors by name .it is int'),
        (b'\x80\x02K\x05r\xff\xff\xff\x7f.', 'it is int'),
    ],
)  # to be remembered under a number that asks for 16 GiB
def test_a_file_that_is_no_checkpoint(tmp_path, content, sentence):
    if content is not None:
        (tmp_path / 'a.pth').write_bytes(content)
    with pytest.raises(ConfigError, match=sentence):
        import_checkpoint(tmp_path / 'a.pth', tmp_path / 'out')


def test_a_torn_file(tmp_path):
    for how in ({}, dict(_use_new_zipfile_serialization=False)):
        file = saved(moco_v1().content, tmp_path / 'a.pth', **how)
        file.write_bytes(file.read_bytes()[:-5000])
        with pytest.raises(ConfigError, match='cannot|can be read|which no library writes'):
            import_checkpoint(file, tmp_path / 'out')


def test_what_is_there_is_not_written_over(tmp_path):
    file = saved(moco_v1().content, tmp_path / 'a.pth')
    path = import_checkpoint(file, tmp_path / 'out').path
    assert path == tmp_path / 'out' / FILE
    with pytest.raises(ConfigError, match='exists already'):
        import_checkpoint(file, tmp_path / 'out')


def test_heads_that_the_weights_do_not_show_are_asked_for(tmp_path):
    solo = {'pytorch-lightning_version': '1', 'state_dict': under('backbone.', ('', vit(6, 384)))}
    network = vit(6, 384)
    network.pos_embed.data[:, 0] = 0  # as MoCo v3's fixed positions
    tiny = {
        'pytorch-lightning_version': '1',
        'state_dict': under('backbone.', ('', vit(3, 192))),
    }  # solo-learn's has 12, others 3
    for content, sentence in (
        (solo, "12 heads in MoCo v3 .*and 6 elsewhere.*'num_heads': 12}.*'num_heads': 6}"),
        (
            tiny,
            "width 192 has 12 heads in MoCo v3 .*and 3 elsewhere.*'num_heads': 12}.*'num_heads': "
            '3}',
        ),
        (network.state_dict(), '12 heads in MoCo v3'),
        (vit().state_dict(), 'a ViT of width 24, whose number of heads'),
    ):
        file = saved(content, tmp_path / 'a.pth')
        with pytest.raises(ConfigError, match=sentence):
            import_checkpoint(file, tmp_path / 'out')
    config = read_checkpoint(
        import_checkpoint(
            saved(vit(6, 384).state_dict(), tmp_path / 'a.pth'), tmp_path / 'out'
        ).path
    )['config']
    assert config['method']['backbone'] == dict(name='vit_small_patch8_224', depth=2, img_size=32)


def test_a_vit_is_imported_for_images_of_another_size(tmp_path):
    file = saved(vit(6, 384).state_dict(), tmp_path / 'a.pth')
    report = import_checkpoint(file, tmp_path / 'out', options=['data.eval_size=64'])
    assert report.lines[-1] == (
        'warning    position embeddings were interpolated from 4 x 4 to 8 x 8 tokens: the network '
        'was not trained at this size'
    )
    assert load_method(report.path)[0].backbone.pos_embed.shape == (1, 65, 384)
    assert read_checkpoint(report.path)['method']['online.backbone.pos_embed'].shape[1] == 17
    with pytest.raises(ConfigError, match='cannot take images of 4 x 4 px'):
        import_checkpoint(file, tmp_path / 'small', options=['data.eval_size=4'])
    assert not (tmp_path / 'small').exists()


def test_a_projector_that_cannot_be_had_is_left_out_and_said(tmp_path):
    case = vicreg()
    case.content['model']['module.projector.0.weight'] = torch.randn(32, 65)
    report = import_checkpoint(saved(case.content, tmp_path / 'a.pth'), tmp_path / 'out')
    assert any(
        'the projector of the online network: it does not begin with a linear layer of 64 inputs'
        in line
        for line in report.lines
    )
    with pytest.raises(ConfigError, match='has no projector'):
        load_method(report.path)[0].encoder(layer='projector')


@pytest.mark.parametrize('name', ['1000000000.weight', '9' * 5000 + '.weight', '٣.weight'])
def test_a_projector_of_far_numbers_is_left_out_at_once(tmp_path, name):
    case = vicreg()
    case.content['model'][f'module.projector.{name}'] = torch.randn(32, 64)
    started = time.perf_counter()
    report = import_checkpoint(saved(case.content, tmp_path / 'a.pth'), tmp_path / 'out')
    assert time.perf_counter() - started < 20
    assert any('the projector of the online network: its' in line for line in report.lines)


def test_a_number_that_float32_does_not_have_is_not_written(tmp_path):
    state = TinyResNet().double().state_dict()
    state['layer1.0.conv1.weight'][0, 0, 0, 0] = 1e300
    with pytest.raises(ConfigError, match='layer1.0.conv1.weight that are not finite as .*float32'):
        import_checkpoint(saved(state, tmp_path / 'a.pth'), tmp_path / 'out')
    assert not (tmp_path / 'out' / FILE).exists()


@pytest.mark.parametrize(
    ('start', 'end'),
    [
        (b'}', b'K\x01s'),
        (b'}(', b'K\x01u'),
        (b'(', b'K\x01d'),
        (b'\x8f(', b'\x90'),
        (b'(', b'\x91'),
    ],
    ids=['an item', 'items', 'a dict', 'a set', 'a frozen set'],
)
def test_a_key_whose_hash_never_ends_is_refused(tmp_path, start, end):
    value = (0,)
    for _ in range(60):
        value = (value, value)
    key = pickle.dumps(value, protocol=4)[2:-1]
    assert key[0:1] == pickle.FRAME
    (tmp_path / 'a.pkl').write_bytes(b'\x80\x04' + start + key[9:] + end + b'.')
    with pytest.raises(ConfigError, match='a key of more than 1,000 items'):
        read_foreign(tmp_path / 'a.pkl')


def test_an_import_takes_no_place_of_weights(tmp_path):
    file = saved(TinyResNet().state_dict(), tmp_path / 'a.pth')
    for key in ('checkpoint_path', 'cache_dir', 'pretrained_cfg_overlay'):
        with pytest.raises(ConfigError, match=f'{key}=.* is not a key of the architecture'):
            import_checkpoint(file, tmp_path / 'out', backbone=str({key: str(tmp_path / 'b')}))
    assert {path.name for path in tmp_path.iterdir()} == {'a.pth'}


def test_a_file_whose_objects_hold_themselves(tmp_path):
    held = InertObject()
    held.args = (held,)
    with pytest.raises(ConfigError, match='holds no tensors by name'):
        find_networks(dict(experiment_state=dict(online_params=held, online_state=held)))


# Files that run code when they are loaded with trust.


class Evil:
    def __init__(self, *what):
        self.what = what

    def __reduce__(self):
        return self.what


def attacks(folder: Path) -> dict:
    mark = folder / 'ran'
    return {
        'os.system': Evil(os.system, (f'touch {mark}',)),
        'eval': Evil(eval, (f'open({str(mark)!r}, "w")',)),
        'exec': Evil(exec, (f'open({str(mark)!r}, "w")',)),
        'Path.touch': Evil(Path.touch, (mark,)),
        'getattr': Evil(getattr, ('text', 'upper')),
        'nested': [dict(a=(Evil(os.mkdir, (str(mark),)),))],
        'partial': __import__('functools').partial(os.mkdir, str(mark)),
        'torch.load': Evil(torch.load, (str(mark),)),
        'import': Evil(__import__, ('antigravity',)),
    }


@pytest.mark.parametrize(
    'how', [{}, dict(_use_new_zipfile_serialization=False), dict(pickle_protocol=4)]
)
def test_a_malicious_file_runs_nothing_and_its_tensors_are_read(tmp_path, how):
    for name, attack in attacks(tmp_path).items():
        case = moco_v1()
        case.content['args'] = attack
        file = saved(case.content, tmp_path / 'a.pth', **how)
        with pytest.raises(pickle.UnpicklingError):
            torch.load(file, weights_only=True)  # which refuses the whole file
        assert torch.equal(
            read_foreign(file)['state_dict']['module.encoder_q.bn1.bias'].read(),
            case.content['state_dict']['module.encoder_q.bn1.bias'],
        )
        assert not (tmp_path / 'ran').exists() and 'antigravity' not in sys.modules, name
    import_checkpoint(file, tmp_path / 'out')


@pytest.mark.parametrize('protocol', [2, 4, 5])
def test_a_malicious_pickle_runs_nothing(tmp_path, protocol):
    for name, attack in attacks(tmp_path).items():
        (tmp_path / 'a.pkl').write_bytes(pickle.dumps(dict(experiment_state=attack), protocol))
        with pytest.raises(ConfigError):
            import_checkpoint(tmp_path / 'a.pkl', tmp_path / 'out')
        assert not (tmp_path / 'ran').exists() and 'antigravity' not in sys.modules, name


@contextlib.contextmanager
def memory_below(most: int):
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize('zipped', [False, True])
@pytest.mark.parametrize(
    'claim',
    [
        pickle.BYTEARRAY8 + struct.pack('<Q', 2**28),
        pickle.BYTEARRAY8 + struct.pack('<Q', 2**62),
        pickle.BINBYTES8 + struct.pack('<Q', 2**28),
        pickle.BINBYTES8 + struct.pack('<Q', 2**62),
        pickle.BINUNICODE8 + struct.pack('<Q', 2**28),
        pickle.FRAME + struct.pack('<Q', 2**28),
        pickle.BINBYTES + struct.pack('<I', 2**28),
        pickle.BINUNICODE + struct.pack('<I', 2**28),
        pickle.BINSTRING + struct.pack('<i', 2**28),
        pickle.LONG4 + struct.pack('<i', 2**28),
        pickle.FRAME + struct.pack('<Q', 9) + pickle.BINBYTES8 + struct.pack('<Q', 2**28),
    ],
    ids=lambda claim: claim.hex(),
)
def test_a_length_that_the_file_does_not_have_takes_no_memory(tmp_path, claim, zipped):
    content = b'\x80\x05' + claim + b'x.'
    if zipped:
        with zipfile.ZipFile(tmp_path / 'a.pth', 'w') as archive:
            archive.writestr('a/data.pkl', content)
    else:
        (tmp_path / 'a.pth').write_bytes(content)
    with (
        memory_below(2**22),
        pytest.raises(
            ConfigError, match='the file holds a value of [0-9,]+ bytes where 2 are left, which no'
        ),
    ):
        read_foreign(tmp_path / 'a.pth')


def test_a_storage_that_the_file_does_not_have_takes_no_memory(tmp_path):
    file = saved(dict(a=torch.zeros(4)), tmp_path / 'a.pth', _use_new_zipfile_serialization=False)
    four = b'K\x04N'  # how many numbers, and no view of them
    assert file.read_bytes().count(four) == 1
    file.write_bytes(file.read_bytes().replace(four, b'J' + struct.pack('<i', 2**26) + b'N'))
    with memory_below(2**22), pytest.raises(ConfigError, match='which no library writes'):
        read_foreign(file)['a'].read()


@pytest.mark.parametrize('member', ['data.pkl', 'byteorder', 'data/0', 'rest'])
def test_compressed_members_are_not_unpacked(tmp_path, member):
    saved(dict(a=torch.zeros(4)), tmp_path / 'plain.pth')
    with (
        zipfile.ZipFile(tmp_path / 'plain.pth') as old,
        zipfile.ZipFile(tmp_path / 'a.pth', 'w') as new,
    ):
        for name in old.namelist():
            if not name.endswith('/' + member):
                new.writestr(name, old.read(name))
        new.writestr(f'plain/{member}', bytes(2**25), zipfile.ZIP_DEFLATED)
    with (
        memory_below(2**22),
        pytest.raises(
            ConfigError, match=f'the file holds plain/{member} compressed, or of another size'
        ),
    ):
        read_foreign(tmp_path / 'a.pth')


@pytest.mark.parametrize('member', ['byteorder', 'data/0'])
def test_members_of_another_size_are_not_read(tmp_path, member):
    saved(dict(a=torch.zeros(4)), tmp_path / 'plain.pth')
    with (
        zipfile.ZipFile(tmp_path / 'plain.pth') as old,
        zipfile.ZipFile(tmp_path / 'a.pth', 'w') as new,
    ):
        for name in old.namelist():
            new.writestr(name, bytes(2**25) if name.endswith('/' + member) else old.read(name))
    with (
        memory_below(2**22),
        pytest.raises(
            ConfigError, match='with another byte order|a storage of 4 numbers in 33554432 bytes'
        ),
    ):
        read_foreign(tmp_path / 'a.pth')['a'].read()


def test_attributes_that_a_pickle_writes_stay_in_it(tmp_path):
    """BUILD on what stands for a function or a class: neither the next file nor the library sees
    it."""
    for name in (
        'torch._utils\n_rebuild_tensor_v2',
        'torch\nFloatStorage',
        '_codecs\nencode',
        'any\nThing',
        'numpy\ndtype',
        'builtins\ndict',
    ):
        build = b'}(X\x07\x00\x00\x00__doc__K\x01X\x01\x00\x00\x00zK\x02ub.'
        for state in (
            build,
            b'N' + build[:-2] + b'\x86b.',
        ):  # as attributes of the object, and as its slots
            (tmp_path / 'a.pkl').write_bytes(b'\x80\x02c' + name.encode() + b'\n' + state)
        before = set(vars(InertObject))
        try:
            read_foreign(tmp_path / 'a.pkl')
        except ConfigError:
            pass
        assert (
            set(vars(InertObject)) == before
            and InertObject.__doc__ != 1
            and not hasattr(torch._utils._rebuild_tensor_v2, 'z')
        )


def test_tensors_that_reach_beyond_their_storage_are_refused(tmp_path):
    def lie(size, stride, offset=0):
        record = torch.zeros(4)

        class Lie:
            def __reduce__(self):
                return torch._utils._rebuild_tensor_v2, (
                    record.storage(),
                    offset,
                    size,
                    stride,
                    False,
                    collections.OrderedDict(),
                )

        return Lie()

    for attack in (lie((1000,), (1,)), lie((4,), (1,), -1), lie((2, 2), (1,))):
        file = saved(dict(state_dict={'conv1.weight': attack}), tmp_path / 'a.pth')
        with pytest.raises(ConfigError, match='which no library writes'):
            read_foreign(file)
    value = read_foreign(saved(dict(a=lie((2,), (3,), 2)), tmp_path / 'a.pth'))['a']
    with pytest.raises(
        ConfigError, match='a tensor that cannot be read .RuntimeError.*out of bounds'
    ):
        value.read()


@pytest.mark.parametrize(
    ('prefix', 'wrap'),
    [
        ('learner.online_encoder.net.', lambda state: state),
        ('model.resnet.', lambda state: dict(state_dict=state)),
        ('encoder_q.net.', lambda state: dict(state_dict=state)),
        ('a.module.b._orig_mod.', lambda state: dict(model=state)),
        (
            'trunk._feature_blocks.',
            lambda state: dict(classy_state_dict=dict(base_model=dict(model=state))),
        ),
        ('backbone.', lambda state: dict(teacher=state)),
    ],
)
@pytest.mark.parametrize('is_sequential', [False, True])
def test_a_backbone_under_any_prefix_is_found(tmp_path, prefix, wrap, is_sequential):
    network = TinyResNet()
    part = nn.Sequential(*list(network.children())[:-1]) if is_sequential else network
    file = saved(wrap(under(prefix, ('', part))), tmp_path / 'a.pth')
    report = import_checkpoint(file, tmp_path / 'out')
    clean = prefix.replace('module.', '').replace('_orig_mod.', '')
    assert 'backbone found under' in report.lines[0] and clean in report.lines[0]
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        features = load_method(report.path)[0].encoder()(images)
        torch.testing.assert_close(features, network(images), atol=1e-5, rtol=1e-5)


def test_of_several_backbones_one_is_named(tmp_path):
    networks = {'net.online_encoder.': TinyResNet(), 'net.target_encoder.': TinyResNet()}
    state = {
        key: value
        for prefix, network in networks.items()
        for key, value in under(prefix, ('', network)).items()
    }
    file = saved(dict(state_dict=state), tmp_path / 'a.pth')
    listing = 'under state_dict.net.online_encoder., state_dict.net.target_encoder.; name one with'
    with pytest.raises(ConfigError, match=listing) as error:
        import_checkpoint(file, tmp_path / 'out')
    assert '--layout auto' not in str(error.value)
    prefix = 'net.target_encoder'
    path = import_checkpoint(file, tmp_path / 'out', prefix=prefix).path
    conv = load_method(path)[0].backbone.conv1.weight
    assert torch.equal(conv, networks['net.target_encoder.'].conv1.weight)
    with pytest.raises(ConfigError, match="no backbone begins under the prefix 'net.other.'"):
        import_checkpoint(file, tmp_path / 'other', prefix='net.other')


def test_a_cifar_stem_under_a_prefix_is_asked_for(tmp_path):
    file = saved(under('model.net.', ('', TinyResNet(cifar_padding=1))), tmp_path / 'a.pth')
    with pytest.raises(ConfigError, match='solo-learn pads it by 2, others by 1; give --backbone'):
        import_checkpoint(file, tmp_path / 'out')
    import_checkpoint(file, tmp_path / 'out', backbone="{'stem_padding': 1}")


def test_masks_and_decoders_are_left_out(tmp_path):
    rest = dict.fromkeys(
        ('mask_token', 'decoder_pos_embed', 'decoder_embed.weight', 'decoder_blocks.0.norm.bias'),
        torch.zeros(1, 1, 24),
    )
    file = saved(dict(model=vit().state_dict() | rest), tmp_path / 'a.pth')
    report = import_checkpoint(file, tmp_path / 'out', backbone="{'num_heads': 3}")
    left = next(line for line in report.lines if line.startswith('left out'))
    assert 'mask_token' in left and 'decoder_blocks' in left
