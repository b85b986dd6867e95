"""Building a method from a file: what a checkpoint may not do, and what it may not cost."""

import socket
import time

import pytest
import timm
import torch

from ssl_zoo.architecture_keys import architecture, without_weight_sources
from ssl_zoo.build import build_method, load_method
from ssl_zoo.checkpoint import FORMAT, add_digest
from ssl_zoo.config.loading import load_config
from ssl_zoo.errors import ConfigError
from ssl_zoo.interop.imported_method import Imported
from ssl_zoo.registry import METHODS

pytestmark = pytest.mark.quick


@pytest.fixture
def write(tiny, tmp_path):
    """Function: write a checkpoint whose config has changes; returns its path."""
    method = build_method(tiny())

    def write(backbone=(), arguments=(), items=(), **config):
        made = tiny().to_builtin()
        made['method']['backbone'].update(backbone)
        made['method'].update(arguments)
        made.update(config)
        content = dict(format=FORMAT, config=made, step=7, method=method.state_dict())
        torch.save(add_digest({**content, **dict(items)}), tmp_path / 'changed.pth')
        return tmp_path / 'changed.pth'

    return write


@pytest.fixture
def no_fetching(monkeypatch):
    """Fail if anything asks for an address or loads weights into a backbone."""

    def refuse(*arguments, **names):
        raise AssertionError(f'fetched: {arguments} {names}')

    monkeypatch.setattr(socket.socket, 'connect', refuse)
    monkeypatch.setattr('timm.models._builder.load_pretrained', refuse)
    monkeypatch.setattr('timm.models._factory.load_checkpoint', refuse)


@pytest.mark.parametrize('random_weights', [False, True])
@pytest.mark.parametrize(
    'backbone',
    [
        dict(pretrained=True, pretrained_cfg_overlay=dict(url='data:,evil', hf_hub_id='')),
        dict(pretrained=True, pretrained_cfg=dict(file='/etc/passwd')),
        dict(pretrained=True, cache_dir='folder'),
        dict(checkpoint_path='/etc/passwd'),
        dict(features_only=True),
        dict(block_args=dict(attn_layer='se')),
    ],
)
def test_a_checkpoint_names_no_place_of_weights(
    write, no_fetching, tmp_path, monkeypatch, backbone, random_weights
):
    monkeypatch.chdir(tmp_path)
    path = write(backbone)
    files = set(tmp_path.iterdir())
    *_, key = backbone
    with pytest.raises(ConfigError, match=f'{key}=.* is not a key of the architecture'):
        load_method(path, random_weights=random_weights)
    assert set(tmp_path.iterdir()) == files


def test_random_weights_are_random_though_the_run_began_with_pretrained_ones(
    write, no_fetching, tiny
):
    method, _, step = load_method(write(dict(pretrained=True)), random_weights=True)
    expected = build_method(tiny()).state_dict()
    made = method.state_dict()
    assert step == 0 and all(torch.equal(made[key], expected[key]) for key in expected)


def test_fresh_random_weights_are_not_fetched_either(write, no_fetching):
    from ssl_zoo.evaluation.protocols.context import EvaluationContext

    context = EvaluationContext(str(write(dict(pretrained=True))), random_weights=True)
    assert context.fresh_encoder(1).conv1.weight.isfinite().all()


def test_a_plug_in_builds_other_backbones_by_the_same_rules(write, no_fetching, tiny, tmp_path):
    from ssl_zoo.backbones import build_backbone
    from ssl_zoo.methods.byol import BYOL

    @METHODS.register_module(force=True)
    class WithTeacher(BYOL):
        def __init__(self, teacher, **arguments):
            super().__init__(**arguments)
            build_backbone(**teacher)

    for key in ('checkpoint_path', 'cache_dir'):
        teacher = {'name': 'resnet18', key: str(tmp_path / 'evil')}
        path = write(arguments=dict(type='WithTeacher', teacher=teacher))
        with pytest.raises(ConfigError, match=f'{key}=.* is not a key of the architecture'):
            load_method(path)


def test_downloads_are_the_users_to_ask_for(write):
    data = dict(
        train=dict(type='CIFAR10', root='folder', download=True),
        test=dict(type='CIFAR10', root='folder', download=True),
    )
    path = write(data=data)
    assert load_method(path)[1].data.train == dict(type='CIFAR10', root='folder')
    settings = load_method(path, ['data.test.download=True'])[1]
    assert settings.data.test['download'] is True and 'download' not in settings.data.train


SIZES = {
    'layers': dict(backbone=dict(layers=[10**6, 1, 1, 1])),
    'many layers': dict(backbone=dict(layers=[10**12, 1, 1, 1])),
    'width': dict(backbone=dict(width=10_000)),
    'no number': dict(backbone=dict(width=float('nan'))),
    'text': dict(backbone=dict(layers='many')),
    'hidden_dim': dict(arguments=dict(hidden_dim=10**7)),
    'proj_dim': dict(arguments=dict(proj_dim=10**15)),
    'layers of a head': dict(
        method=dict(type='SimSiam', backbone=dict(name='resnet18'), proj_layers=10**9)
    ),
    'another network': dict(backbone=dict(name='resnet200')),
    'batch_size': dict(batch_size=10**18, accumulate='auto', max_device_batch=1),
    'views': dict(views=[dict(size=20)] * 100_000),
    'size': dict(views=[dict(size=10**9)] * 2),
    'accumulate': dict(accumulate=0),
    'no type': dict(arguments=dict(type=None)),
    'a list for a type': dict(arguments=dict(type=[])),
}


@pytest.mark.parametrize('kind', SIZES)
def test_a_config_of_another_size_costs_no_memory(write, monkeypatch, kind):
    path = write(**SIZES[kind])
    # Nothing is built in memory before names and shapes have been compared.
    built = []
    real = METHODS.create
    monkeypatch.setattr(
        METHODS,
        'create',
        lambda cfg: built.append(torch.empty(0).device.type) or real(cfg),
    )
    started = time.perf_counter()
    with pytest.raises(ConfigError):
        load_method(path)
    assert time.perf_counter() - started < 10 and 'cpu' not in built


@pytest.mark.parametrize(
    ('items', 'words'),
    [
        (dict(step=True), "its 'step' is of another type"),
        (dict(step=-1), "its 'step' must be a number of steps"),
        (dict(accumulate=0), "its 'accumulate' must be above 0"),
        (dict(images=0), "its 'images' must be a number of images"),
        (dict(images='many'), "its 'images' is of another type"),
        (dict(seconds=float('nan')), "its 'seconds' must be a number of seconds"),
        (dict(versions=['1']), "its 'versions' is of another type"),
        (dict(versions=dict(torch=1)), "its 'versions' must be texts by name"),
        (dict(manifest=3), "its 'manifest' is of another type"),
        (dict(method=dict(a='text')), "its 'method' must be tensors by name"),
        (dict(method={3: torch.zeros(1)}), "its 'method' must be tensors by name"),
        (dict(config=dict(method=dict())), "its 'config' must be a config with"),
    ],
)
def test_items_that_no_run_writes(write, items, words):
    with pytest.raises(ConfigError, match=words):
        load_method(write(items=items))


def test_the_keys_of_a_family():
    resnet = dict(name='resnet18', layers=[1, 1, 1, 1], pretrained='anything')
    assert architecture(resnet) == dict(name='resnet18', layers=[1, 1, 1, 1])
    assert architecture(dict(name='vit_small_patch16_224', depth=2, num_heads=3))
    assert architecture(dict(name='convnext_tiny', depths=[1, 1, 1, 1], dims=[8, 8, 8, 8]))
    for backbone in (
        dict(name='resnet18', depth=2),
        dict(name='vit_small_patch16_224', layers=[1]),
        dict(name='convnext_tiny', pretrained_strict=False),
        dict(name='no such model', layers=[1]),
    ):
        with pytest.raises(ConfigError, match='Allowed: .*stem'):
            architecture(backbone)
    for value in (10**7, float('inf'), [[[[1]]]], dict(a=1), b'a'):
        with pytest.raises(ConfigError, match='a number of at most 1,000,000'):
            architecture(dict(name='resnet18', layers=value))


def test_a_model_of_the_users_own_keeps_its_arguments():
    @timm.models.register_model
    def own_network(channels=64, **timm_arguments):
        raise NotImplementedError

    try:
        own = dict(name='own_network', channels=32)
        assert architecture(own) == own
        with pytest.raises(ConfigError, match='is not a key of the architecture'):
            architecture(dict(own, checkpoint_path='a'))
    finally:
        timm.models._registry._model_entrypoints.pop('own_network')


def test_a_file_does_not_tell_where_its_weights_came_from(tiny):
    config = tiny().to_builtin()
    backbone = config['method']['backbone']
    with_source = dict(backbone, pretrained=True, pretrained_cfg_overlay=dict(file='a.pth'))
    config['method']['backbone'] = with_source
    kept = without_weight_sources(config)['method']['backbone']
    assert kept == dict(backbone, pretrained=True)
    assert config['method']['backbone'] == with_source


def test_the_recipes_of_the_zoo_pass(root):
    for path in root.glob('configs/*/*.py'):
        if path.parent.name in ('_base_', 'studies'):
            continue
        backbone = load_config(path).method['backbone']
        assert architecture(backbone) == backbone, path


def test_an_imported_projector_costs_no_more_than_its_weights(tmp_path):
    network = Imported(dict(name='resnet18', layers=[1, 1, 1, 1], width=0.125))
    config = dict(
        method=dict(
            type='Imported',
            backbone=dict(name='resnet18', layers=[1, 1, 1, 1], width=0.125),
            projector=[['linear', 10**6, 10**6, True]],
        ),
        data=dict(train=dict(type='Digits')),
        views=[dict(size=20)],
        optimizer=dict(type='SGD'),
        epochs=1,
        batch_size=2,
        base_lr=1.0,
    )
    content = dict(format=FORMAT, config=config, step=0, method=network.state_dict())
    torch.save(add_digest(content), tmp_path / 'a.pth')
    with pytest.raises(ConfigError, match='does not fit Imported'):
        load_method(tmp_path / 'a.pth')


def test_weights_of_other_channels_are_told_apart(write, tiny):
    path = write(dict(in_chans=1))
    with pytest.raises(ConfigError, match='in_chans=1 of the backbone, but it must be 3: images'):
        load_method(path)
    weights = build_method(tiny()).state_dict()
    for key in ('online.backbone.conv1.weight', 'target.network.backbone.conv1.weight'):
        weights[key] = weights[key][:, :1]
    sentence = (
        'does not fit BYOL: its .*conv1.weight takes images of 1 channels, and images are read as '
        'RGB here'
    )
    with pytest.raises(ConfigError, match=sentence):
        load_method(write(items=dict(method=weights)))


def test_a_checkpoint_that_states_three_channels_is_read(write):
    assert load_method(write(dict(in_chans=3)))[0].backbone.conv1.in_channels == 3
