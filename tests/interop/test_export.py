"""Exported backbones: what is in the file, that timm, torchvision and onnxruntime compute the zoo's
features with it, what is refused."""

import hashlib
import json
import math
import os
import re
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
import torchvision
import yaml
from PIL import Image
from torch import nn

from ssl_zoo.backbones import build_backbone
from ssl_zoo.build import build_method
from ssl_zoo.checkpoint import FORMAT, add_digest, read_checkpoint
from ssl_zoo.config.settings import settings_from_dict
from ssl_zoo.data.sources.folder import Images
from ssl_zoo.errors import ConfigError
from ssl_zoo.evaluation.features import Preprocessing, encode_batches
from ssl_zoo.evaluation.protocols.context import EvaluationContext
from ssl_zoo.interop import export as module
from ssl_zoo.interop import export_formats as formats
from ssl_zoo.interop.export import export
from ssl_zoo.interop.import_checkpoint import import_checkpoint
from ssl_zoo.interop.input_shape import check_dynamic_size, describe_input, sizes_taken
from ssl_zoo.interop.target_libraries import timm_recipe, torchvision_recipe
from ssl_zoo.interop.timm_folder import _crop_share
from ssl_zoo.interop.verification import compare_features
from ssl_zoo.layers import batchnorm_to_groupnorm

LAYERS = dict(layers=[1, 1, 1, 1])
TINY = dict(name='resnet18', stem='cifar', width=0.125, **LAYERS)
PLAIN = dict(name='resnet18', **LAYERS)
ALONE = dict(type='SimCLR')  # one network, half the weights
VIT = dict(name='vit_tiny_patch16_224', img_size=32, depth=2)
X = torch.linspace(-1, 1, 5 * 3 * 32 * 32).view(5, 3, 32, 32).mul(40).sin()


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    """The option that names twenty images."""
    root, rng = tmp_path_factory.mktemp('photos'), np.random.default_rng(0)
    for i in range(20):
        Image.fromarray(rng.integers(0, 256, (32, 32, 3)).astype(np.uint8)).save(
            root / f'{i:02d}.png'
        )
    return f"data.test={{'type': 'Images', 'root': {str(root)!r}}}"


@pytest.fixture
def context(checkpoint, photos):
    """Function: the context of a checkpoint made for it, or of one's own, with images to compare
    on."""

    def make(backbone=TINY, path=None, options=(), network=None, **method):
        return EvaluationContext(
            str(path or checkpoint(backbone, **method)), [photos, *options], network
        )

    return make


def settings(backbone, type='BYOL', **method):
    heads = dict(hidden_dim=16, proj_dim=8) if type == 'BYOL' else {}
    return settings_from_dict(
        dict(
            method=dict(type=type, backbone=backbone, **heads, **method),
            data=dict(
                train=dict(type='Images', root='/not/here'),
                test=dict(type='Images', root='/not/here/either'),
                mean=[0.5, 0.4, 0.3],
                std=[0.2, 0.3, 0.4],
            ),
            views=[dict(size=32)] * 2,
            optimizer=dict(type='LARS', momentum=0.9),
            epochs=2,
            batch_size=20,
            base_lr=1.0,
            workers=0,
        )
    )


@pytest.fixture
def checkpoint(tmp_path):
    """Function: a checkpoint whose two networks differ, and whose statistics are not those of a new
    network; its path."""

    def make(backbone=TINY, **method):
        configured = settings(backbone, **method)
        built = build_method(configured)
        with torch.no_grad():
            for name, value in built.state_dict().items():
                if name.endswith('running_var'):
                    value.uniform_(0.5, 2)
                elif value.is_floating_point():
                    value.add_(torch.randn_like(value), alpha=0.05)
        path = tmp_path / 'run' / 'checkpoints' / 'step_00000014.pth'
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(
            add_digest(
                dict(
                    format=FORMAT,
                    config=configured.to_builtin(),
                    step=14,
                    images=140,
                    manifest='abc',
                    versions=dict(torch='2.15.0'),
                    method=built.state_dict(),
                )
            ),
            path,
        )
        return path

    return make


def features(network, x=X):
    with torch.no_grad():
        return network.eval()(x)


def run_code(code, folder: Path) -> dict:
    """What the printed lines leave behind, run where the file is."""
    names, before = {}, os.getcwd()
    os.chdir(folder)
    try:
        exec('\n'.join(code), names)
    finally:
        os.chdir(before)
    return names


def printed_code(text: str) -> list[str]:
    return [line.removeprefix('    ') for line in text.splitlines() if line.startswith('    ')]


# --- what is in the file, loaded by the other library with nothing of ours


def test_timm_loads_it(context, tmp_path):
    made = context(dict(name='test_resnet'), **ALONE)
    result = export(made, 'timm', str(tmp_path / 'a.pth'))
    state = torch.load(tmp_path / 'a.pth', weights_only=True)
    network = timm.create_model('test_resnet', num_classes=0)
    network.load_state_dict(state)
    torch.testing.assert_close(features(network), features(made.encoder), rtol=0, atol=1e-6)
    assert all(type(v) is torch.Tensor and v.is_contiguous() for v in state.values()) and not any(
        k.startswith('fc.') for k in state
    )
    assert (result.difference, result.images, result.source) == (
        0,
        20,
        'test',
    ) and result.scale > 0.1


def test_batchnorms_statistics_go_with_it(checkpoint, context, tmp_path):
    path = checkpoint()
    export(context(path=path), 'timm', str(tmp_path / 'a.pth'))
    ours, theirs = (
        torch.load(path, weights_only=True)['method'],
        torch.load(tmp_path / 'a.pth', weights_only=True),
    )
    names = [name for name in theirs if 'running' in name]
    assert len(names) == 2 * (1 + 2 * 4 + 3)  # the stem's, two for each block, three short cuts'
    for name in names:
        assert (
            torch.equal(theirs[name], ours[f'online.backbone.{name}']) and theirs[name].std() > 0.01
        )


@pytest.mark.parametrize('name', ['online', 'target'])
def test_each_network_is_its_own(checkpoint, context, tmp_path, name):
    path = checkpoint()
    export(context(path=path, network=name), 'timm', str(tmp_path / 'a.pth'))
    ours, theirs = (
        torch.load(path, weights_only=True)['method'],
        torch.load(tmp_path / 'a.pth', weights_only=True),
    )
    same = {
        prefix: all(torch.equal(theirs[key], ours[f'{prefix}.backbone.{key}']) for key in theirs)
        for prefix in ('online', 'target.network')
    }
    assert same == {'online': name == 'online', 'target.network': name == 'target'}


def test_dino_gives_its_teacher(context, tmp_path):
    dino = dict(type='DINO', backbone=TINY, hidden_dim=16, bottleneck_dim=8, prototypes=12)
    configured = settings_from_dict(dict(settings(TINY).to_builtin(), method=dino))
    path = tmp_path / 'dino.pth'
    method = build_method(configured)
    torch.nn.init.normal_(method.teacher.network.backbone.conv1.weight)
    torch.save(
        add_digest(
            dict(format=FORMAT, config=configured.to_builtin(), step=0, method=method.state_dict())
        ),
        path,
    )
    export(context(path=path), 'timm', str(tmp_path / 'a.pth'))
    weight = torch.load(tmp_path / 'a.pth', weights_only=True)['conv1.weight']
    assert torch.equal(weight, method.teacher.network.backbone.conv1.weight)
    assert not torch.equal(weight, method.student.backbone.conv1.weight)


@pytest.mark.parametrize(
    ('backbone', 'build'),
    [
        (
            PLAIN,
            lambda: torchvision.models.ResNet(torchvision.models.resnet.BasicBlock, [1, 1, 1, 1]),
        ),
        (
            dict(name='resnet50', **LAYERS),
            lambda: torchvision.models.ResNet(torchvision.models.resnet.Bottleneck, [1, 1, 1, 1]),
        ),
        (
            VIT,
            lambda: torchvision.models.VisionTransformer(
                image_size=32, patch_size=16, num_layers=2, num_heads=3, hidden_dim=192, mlp_dim=768
            ),
        ),
    ],
    ids=lambda value: value['name'] if isinstance(value, dict) else '',
)
def test_torchvision_loads_it(context, tmp_path, capsys, backbone, build):
    made = context(backbone, **ALONE)
    export(made, 'torchvision', str(tmp_path / 'a.pth'), images=3)
    network = build()
    found = network.load_state_dict(torch.load(tmp_path / 'a.pth', weights_only=True), strict=False)
    head = 'heads' if backbone is VIT else 'fc'
    assert (
        found.unexpected_keys == []
        and all(key.startswith(head) for key in found.missing_keys)
        and len(found.missing_keys) == 2
    )
    setattr(network, head, nn.Identity())
    expected = features(made.encoder)
    torch.testing.assert_close(features(network), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(
        features(run_code(printed_code(capsys.readouterr().out), tmp_path)['model']),
        expected,
        rtol=0,
        atol=1e-5,
    )


@pytest.mark.parametrize(
    ('backbone', 'code'),
    [
        (dict(name='resnet18'), 'resnet18()'),
        (dict(name='resnet50'), 'resnet50()'),
        pytest.param(dict(name='resnext50_32x4d'), 'resnext50_32x4d()', marks=pytest.mark.long),
        pytest.param(dict(name='wide_resnet50_2'), 'wide_resnet50_2()', marks=pytest.mark.long),
        pytest.param(
            dict(name='resnet200'),
            'ResNet(torchvision.models.resnet.Bottleneck, [3, 24, 36, 3])',
            marks=pytest.mark.long,
        ),
        (
            dict(name='resnext50_32x4d', **LAYERS),
            'ResNet(torchvision.models.resnet.Bottleneck, [1, 1, 1, 1], groups=32, '
            'width_per_group=4)',
        ),
    ],
    ids=lambda value: str(value),
)
def test_torchvisions_names(backbone, code):
    with torch.device('meta'):
        encoder = build_backbone(**backbone)
        recipe = torchvision_recipe(encoder, backbone)
        assert recipe.code == ('import torchvision', f'model = torchvision.models.{code}')
        theirs = eval(
            recipe.code[1].removeprefix('model = '), dict(torchvision=torchvision)
        ).state_dict()
    assert {k: v.shape for k, v in theirs.items() if not k.startswith('fc.')} == {
        k: v.shape for k, v in encoder.state_dict().items()
    }


# --- how to load it, as it is printed


@pytest.mark.parametrize(
    ('backbone', 'method'),
    [
        (dict(PLAIN, channels=[16] * 4), {}),
        (dict(PLAIN, stem='cifar', channels=[16] * 4), {}),
        (dict(PLAIN, width=0.125), {}),
        (TINY, {}),
        (dict(name='resnet50', width=0.125, stem='cifar', **LAYERS), {}),
        (VIT, {}),
        (dict(VIT, fixed_patches=True, weight_init='moco'), {}),
        (TINY, dict(groups=4)),
    ],
    ids=[
        'plain',
        'cifar',
        'narrow',
        'cifar narrow',
        'bottleneck',
        'vit',
        'fixed patches',
        'no batch statistics',
    ],
)
def test_the_lines_that_are_printed_give_the_features(context, tmp_path, capsys, backbone, method):
    made = context(backbone, **method)
    for format_name, name in (('timm', 'a.pth'), ('safetensors', 'b.safetensors')):
        export(made, format_name, str(tmp_path / name), images=2)
        code = printed_code(capsys.readouterr().out)
        assert any('ssl_zoo' in line for line in code if not line.startswith('#')) == (
            'groups' in method
        )  # else timm alone does it
        names = run_code(code, tmp_path)
        torch.testing.assert_close(
            features(names['model']), features(made.encoder), rtol=0, atol=1e-6
        )
        assert not names['model'].training


def test_the_preprocessing_that_is_printed_is_the_evaluations(context, tmp_path, capsys):
    made = context(options=['data.eval_size=32', 'data.eval_resize=40'])
    export(made, 'timm', str(tmp_path / 'a.pth'))
    names = run_code(printed_code(capsys.readouterr().out), tmp_path)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70, 3)).astype(np.uint8))
    image.save(tmp_path / 'image.png')
    own = made.features(Images(str(tmp_path)), 'images').values
    np.testing.assert_allclose(
        features(names['model'], names['transform'](image).unsqueeze(0)), own, atol=1e-5
    )


# --- the folder that timm and the Hugging Face Hub load


def normalised(preprocessing, source):
    """The images as evaluations give them to the network."""
    batches = encode_batches(lambda x: x, source, preprocessing, torch.device('cpu'))
    return np.concatenate([values for _, values, _ in batches])


@pytest.mark.parametrize(
    ('backbone', 'first_conv'),
    [
        (dict(name='test_resnet'), 'conv1.0'),
        pytest.param(dict(name='resnet18'), 'conv1', marks=pytest.mark.long),
        (dict(PLAIN, norm_layer='groupnorm', channels=[32, 64, 64, 64]), 'conv1'),
        (dict(VIT, drop_path_rate=0.1), 'patch_embed.proj'),
        (dict(VIT, fixed_patches=True, global_pool='avg'), 'patch_embed.proj'),
    ],
    ids=['plain', 'resnet18', 'groupnorm', 'vit', 'fixed patches'],
)
def test_timm_loads_the_folder(context, tmp_path, capsys, monkeypatch, backbone, first_conv):
    resize = 32 if 'img_size' in backbone else 37
    made = context(backbone, options=['data.eval_size=32', f'data.eval_resize={resize}'], **ALONE)
    folder = tmp_path / 'hub'
    result = export(made, 'safetensors', str(folder), images=3)
    assert sorted(os.listdir(folder)) == ['README.md', 'config.json', 'model.safetensors']
    config = json.loads((folder / 'config.json').read_text())
    assert config['architecture'] == backbone['name'] and config['num_classes'] == 0
    assert config['pretrained_cfg']['first_conv'] == first_conv
    assert 'drop_path_rate' not in config['model_args']
    expected = features(made.encoder)
    network = timm.create_model(f'local-dir:{folder}', pretrained=True, num_classes=0)
    assert result.difference == 0 and torch.equal(features(network), expected)
    monkeypatch.setattr(
        'timm.models._hub.hf_hub_download',
        lambda *places, filename=None, **rest: str(folder / (filename or places[1])),
    )
    assert torch.equal(features(timm.create_model('hf-hub:me/a', pretrained=True)), expected)
    code = printed_code(capsys.readouterr().out)
    card = (folder / 'README.md').read_text().split('```python\n')[1].split('```')[0]
    for each in (code, card.splitlines()):
        assert torch.equal(features(run_code(each, folder)['model']), expected)
    rng = np.random.default_rng(0)
    photos = tmp_path / 'photos'
    photos.mkdir()
    for i, shape in enumerate([(50, 70), (37, 33), (90, 41), (32, 32)]):
        pixels = rng.integers(0, 256, (*shape, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(photos / f'{i}.png')
    data = timm.data.resolve_data_config({}, model=network)
    transform = timm.data.create_transform(**data)
    theirs = [transform(Image.open(path)).numpy() for path in sorted(photos.iterdir())]
    ours = normalised(made.preprocessing, Images(str(photos)))
    np.testing.assert_allclose(np.stack(theirs), ours, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ('backbone', 'method', 'reason'),
    [
        (TINY, {}, "a ResNet with stem='cifar'"),
        (dict(PLAIN, width=0.125), {}, 'a ResNet with width=0.125'),
        (dict(PLAIN, padding='same', channels=[16] * 4), {}, "padding='same'"),
        (TINY, dict(groups=4), 'weight-standardised convolutions with GroupNorm'),
    ],
    ids=['cifar', 'narrow', 'same', 'no batch statistics'],
)
def test_no_config_of_timm_where_it_would_lie(context, tmp_path, capsys, backbone, method, reason):
    made = context(backbone, **method)
    export(made, 'safetensors', f'{tmp_path}/hub.v1/', images=2)
    assert sorted(os.listdir(tmp_path / 'hub.v1')) == ['README.md', 'model.safetensors']
    said = f'without config.json: timm.create_model alone cannot build {reason}'
    out = capsys.readouterr().out
    assert said in out and said in (tmp_path / 'hub.v1' / 'README.md').read_text()
    names = run_code(printed_code(out), tmp_path / 'hub.v1')
    torch.testing.assert_close(features(names['model']), features(made.encoder), rtol=0, atol=1e-6)


def test_a_vit_of_another_size_than_it_was_trained_at(context, tmp_path, capsys):
    """timm interpolates the positions for data.eval_size, and the file holds the result."""
    made = context(VIT, options=['data.eval_size=64'], **ALONE)
    images = nn.functional.interpolate(X, (64, 64), mode='bilinear')
    expected = features(made.encoder, images)
    export(made, 'safetensors', str(tmp_path / 'hub'), images=2)
    export(made, 'timm', str(tmp_path / 'a.pth'), images=2)
    code = printed_code(capsys.readouterr().out.split(f'{tmp_path}/a.pth')[1])
    for network in (
        timm.create_model(f'local-dir:{tmp_path}/hub', pretrained=True),
        run_code(code, tmp_path)['model'],
    ):
        assert torch.equal(features(network, images), expected)
    card = (tmp_path / 'hub' / 'README.md').read_text()
    assert 'fixed: height and width, 64 px' in card
    assert 'warning: position embeddings were interpolated from 2 x 2 to 4 x 4 tokens' in card


def test_timm_computes_the_size_before_the_crop_from_the_share():
    for resize in range(1, 520):
        for size in (1, 32, 33, 96, 224, 299, 384, resize):
            assert math.floor(size / _crop_share(size, resize)) == resize


# --- onnx


@pytest.mark.long
def test_onnxruntime_runs_it_at_any_size_and_number_of_images(context, tmp_path, capsys):
    onnxruntime = pytest.importorskip('onnxruntime')
    onnx = pytest.importorskip('onnx')
    pytest.importorskip('onnxscript')
    made = context()
    result = export(made, 'onnx', str(tmp_path / 'hub'), dynamic_size=True)
    path = tmp_path / 'hub' / 'model.onnx'
    out = capsys.readouterr().out
    said = 'dynamic: number of images B, height H and width W; fixed: 3 channels'
    assert result.difference < 1e-4 and result.images == 20
    assert 'read back by onnxruntime: ' in out and said in out
    assert 'compared at 32 x 32 and at 41 x 48 px' in out
    session = onnxruntime.InferenceSession(str(path))
    for n, height, width in ((1, 32, 32), (5, 32, 32), (2, 33, 32), (1, 64, 47), (3, 24, 80)):
        images = nn.functional.interpolate(X[:n], (height, width), mode='bilinear')
        np.testing.assert_allclose(
            session.run(['features'], dict(images=images.numpy()))[0],
            features(made.encoder, images),
            atol=1e-5,
        )
    metadata = {item.key: item.value for item in onnx.load(path).metadata_props}
    assert metadata['method'] == 'BYOL' and said in metadata['input']
    assert json.loads(metadata['preprocessing'])['mean'] == [0.5, 0.4, 0.3]
    card = (tmp_path / 'hub' / 'README.md').read_text()
    assert said in card and 'compared at 32 x 32 and at 41 x 48 px' in card
    assert sorted(os.listdir(tmp_path)) == ['hub', 'run']
    assert sorted(os.listdir(tmp_path / 'hub')) == ['README.md', 'model.onnx']


def test_what_an_onnx_file_of_one_size_says(context):
    pytest.importorskip('onnxruntime')
    made = context()
    exporter = formats.export_format(made, made.encoder.cpu().eval(), 'onnx', 'a.onnx')
    assert exporter.input == (
        'float32 (B, 3, 32, 32); dynamic: number of images B; fixed: height and width, 32 px, '
        'and 3 channels'
    )
    assert '--dynamic-size leaves them open' in exporter.notes[0]
    assert 'images: (B, 3, 32, 32) float32' in exporter.code[-1]


def test_the_first_image_and_the_further_shapes_are_compared(image_folder):
    """A graph that is bound to a batch size or to a size is found out."""
    source = Images(str(image_folder(classes=1, per_class=4, size=8)))
    encoder = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten())
    arguments = (Path('x'), source, 'test', ONE, [(9, 12)])
    for wrong in (
        lambda x: encoder(x) + 0.5 * (len(x) == 1),
        lambda x: encoder(x) + 0.5 * (len(x) > 1),
        lambda x: encoder(x) + 0.5 * (x.shape[2:] == (9, 12)),
    ):
        result = compare_features(encoder, lambda path, wrong=wrong: wrong, *arguments)
        assert result.difference == 0.5 and not result.passed
    assert compare_features(encoder, lambda path: encoder, *arguments).difference == 0


@pytest.mark.parametrize(
    ('backbone', 'sizes', 'sentence'),
    [
        (
            VIT,
            'one',
            r'VisionTransformer does not take 41 x 48 px \(.*\); leave out --dynamic-size',
        ),
        (dict(VIT, dynamic_img_size=True), 'some', 'does not take 41 x 48 px'),
        (dict(TINY, stem='imagenet', padding='same'), 'any', 'this one has Conv2dSame, TensorFlow'),
        (TINY, 'any', None),
    ],
)
def test_networks_of_fixed_and_of_dynamic_size(backbone, sizes, sentence):
    encoder = build_backbone(**backbone).eval()
    assert sizes_taken(encoder, 32) == sizes
    assert ('32 px' in describe_input(32, sizes)) == (sizes == 'one')
    if sentence is None:
        check_dynamic_size(encoder, 32)
    else:
        with pytest.raises(ConfigError, match=sentence):
            check_dynamic_size(encoder, 32)


def test_onnx_without_its_packages(context, tmp_path, monkeypatch):
    monkeypatch.setattr(
        formats.importlib.util, 'find_spec', lambda name: None if name != 'onnx' else object()
    )
    with pytest.raises(
        ConfigError,
        match=r'--format onnx needs onnxscript, onnxruntime, which are not installed: '
        r'.*ssl_zoo\[export\]',
    ):
        export(context(), 'onnx', str(tmp_path / 'a.onnx'))


# --- what is refused


def nudged(save, amount):
    """A function that writes, after one weight has moved."""

    def write(state, *rest):
        state['conv1.weight'][0, 0, 1, 1] += amount
        return save(state, *rest)

    return write


@pytest.mark.parametrize('amount', [0.5, float('nan')])
@pytest.mark.parametrize(
    ('format_name', 'name', 'owner'),
    [('timm', 'a.pth', torch), ('safetensors', 'a.safetensors', safetensors.torch)],
)
def test_one_wrong_weight_and_there_is_no_file(
    context, tmp_path, monkeypatch, format_name, name, owner, amount
):
    made = context()
    monkeypatch.setattr(owner, 'save', nudged(owner.save, amount))
    with pytest.raises(
        ConfigError,
        match='not exported: read back by .*timm, the features differ .*, more than the 0.0001 '
        'allowed; use',
    ):
        export(made, format_name, str(tmp_path / name))
    assert os.listdir(tmp_path) == ['run']


def test_small_features_must_be_as_right(context, tmp_path, monkeypatch):
    made = context()
    for difference, scale, fine in (
        (9e-5, 1.0, True),
        (9e-5, 50.0, True),
        (9e-5, 0.5, False),
        (4e-5, 0.5, True),
        (2e-4, 50.0, False),
    ):
        monkeypatch.setattr(
            module,
            'compare_features',
            lambda *rest, measured=(difference, scale): module.Verification(*measured, 5, 'test'),
        )
        try:
            export(made, 'timm', str(tmp_path / f'{difference}{scale}.pth'))
        except ConfigError as error:
            assert 'the features differ' in str(error) and not fine
        else:
            assert fine


def test_a_file_without_the_statistics_is_refused(context, tmp_path, monkeypatch):
    real = torch.save

    def save(state, file):
        real(
            {
                k: torch.ones_like(v) if k == 'layer4.0.bn2.running_var' else v
                for k, v in state.items()
            },
            file,
        )

    made = context()
    monkeypatch.setattr(torch, 'save', save)
    with pytest.raises(ConfigError, match='the features differ'):
        export(made, 'timm', str(tmp_path / 'a.pth'))
    assert os.listdir(tmp_path) == ['run']


@pytest.mark.parametrize(
    ('backbone', 'method', 'sentence'),
    [
        (dict(PLAIN, stem='cifar'), {}, 'no ResNet with a stem of 3x3'),
        (TINY, {}, 'its stem has 64 channels and this one 8'),
        (dict(PLAIN, width=2), {}, "this one 128 .*BYOL's 2x the whole block"),
        (PLAIN, dict(groups=8), 'no weight-standardised convolutions'),
        (dict(name='resnet26d', **LAYERS), {}, 'torchvision has no resnet26d'),
        (dict(name='test_convnext'), {}, 'this backbone is a ConvNeXt'),
        (dict(VIT, global_pool='avg', class_token=False), {}, 'gives the class token'),
        (dict(VIT, qkv_bias=False), {}, 'in_proj_bias'),
        (
            dict(VIT, init_values=1.0),
            {},
            r'VisionTransformer has no encoder.layers.encoder_layer_0.ls1.gamma',
        ),
    ],
    ids=[
        'cifar',
        'narrow',
        'wide',
        'standardised',
        'deep stem',
        'convnext',
        'average',
        'no bias',
        'layer scale',
    ],
)
def test_what_torchvision_does_not_have(backbone, method, sentence):
    with torch.device('meta'):
        encoder = build_backbone(**backbone)
        if method:
            batchnorm_to_groupnorm(nn.Sequential(encoder), **method)
    with pytest.raises(ConfigError, match=f'{sentence}.*use --format timm, safetensors or onnx'):
        torchvision_recipe(encoder, backbone)


@pytest.mark.parametrize(
    ('backbone', 'sentence'),
    [
        (None, 'has no method.backbone'),
        (dict(layers=2), 'has no method.backbone'),
        ({'name': 'resnet18', 'x); print((y': None}, 'has no'),
        (
            dict(name='resnet34', stem='cifar', width=0.125),
            "timm's resnet34 has layer1.1.conv1.weight, which this backbone does not have; use --f",
        ),
        (dict(name='resnet18', stem='cifar', layers=(1, 1, 1, 1)), 'of shape'),
    ],
)
def test_a_network_that_is_not_the_configs(backbone, sentence):
    with torch.device('meta'):
        encoder = build_backbone(**TINY)
        encoder = encoder if 'shape' not in sentence else build_backbone(**dict(TINY, width=0.25))
    with pytest.raises(ConfigError, match=sentence):
        timm_recipe(encoder, backbone)


@pytest.mark.parametrize(
    ('arguments', 'sentence'),
    [
        (dict(format_name='tim'), "the format is 'tim': did you mean 'timm'"),
        (dict(images=0), 'images=0, but it must be a number above 0'),
        (dict(out='a.safetensors'), 'a file for timm ends in .pth or .pt'),
        (
            dict(format_name='safetensors'),
            'a file for safetensors ends in .safetensors, or --out names a folder',
        ),
        (dict(dynamic_size=True), '--dynamic-size is for --format onnx'),
        (dict(out='run'), '--out is .*run, but a file for timm ends in'),
    ],
)
def test_mistakes(context, tmp_path, arguments, sentence):
    values = dict(dict(format_name='timm', out='a.pth', images=4), **arguments)
    with pytest.raises(ConfigError, match=sentence):
        export(context(), **dict(values, out=str(tmp_path / values['out'])))
    assert os.listdir(tmp_path) == ['run']


def test_nothing_is_overwritten(checkpoint, context, tmp_path):
    path = checkpoint()
    before = path.read_bytes()
    with pytest.raises(
        ConfigError, match='step_00000014.pth exists already and is not overwritten'
    ):
        export(context(path=path), 'timm', str(path))
    (tmp_path / 'README.md').write_text('mine')
    with pytest.raises(ConfigError, match='README.md exists already'):
        export(context(path=path), 'safetensors', str(tmp_path / 'a.safetensors'))
    with pytest.raises(ConfigError, match='step_00000014.pth, which exists already and is no fold'):
        export(context(path=path), 'safetensors', f'{path}/')
    (tmp_path / 'hub').mkdir()
    (tmp_path / 'hub' / 'config.json').symlink_to('nowhere')
    with pytest.raises(ConfigError, match='config.json exists already'):
        export(context(path=path), 'safetensors', str(tmp_path / 'hub'))
    assert path.read_bytes() == before and (tmp_path / 'README.md').read_text() == 'mine'
    assert sorted(os.listdir(tmp_path)) == ['README.md', 'hub', 'run']
    assert os.listdir(tmp_path / 'hub') == ['config.json']


@pytest.mark.parametrize(
    ('owner', 'name', 'error', 'format_name'),
    [
        (os, 'fsync', OSError(28, 'No space left on device'), 'safetensors'),
        (torch, 'save', RuntimeError('No space left on device\nFrame 7'), 'timm'),
    ],
)  # as torch says it
def test_a_disk_that_is_full_leaves_nothing(
    context, tmp_path, monkeypatch, owner, name, error, format_name
):
    made = context()

    def full(*rest):
        raise error

    monkeypatch.setattr(owner, name, full)
    with pytest.raises(
        ConfigError,
        match='could not write .*No space left on device; free some space, or choose another --out',
    ):
        export(made, format_name, str(tmp_path / f'a{module.SUFFIXES[format_name][0]}'))
    assert os.listdir(tmp_path) == ['run']


def test_the_card_comes_after_its_file(context, tmp_path, monkeypatch):
    """A card alone would speak of a file that is not there."""
    made, out, real = context(), tmp_path / 'a.safetensors', os.replace

    def fails(name):
        def replace(old, new):
            if Path(new).name == name:
                raise OSError(28, 'No space left on device')
            return real(old, new)

        return replace

    monkeypatch.setattr(os, 'replace', fails('a.safetensors'))
    with pytest.raises(ConfigError, match='could not write .*a.safetensors: .*No space left'):
        export(made, 'safetensors', str(out))
    assert os.listdir(tmp_path) == ['run']
    monkeypatch.setattr(os, 'replace', fails('README.md'))
    with pytest.raises(
        ConfigError,
        match='a.safetensors is written and verified, sha256 [0-9a-f]{64}, but README.md beside it '
        'could not be written: .*No space left on device; to have all files, free some space, '
        'remove a.safetensors and export again',
    ):
        export(made, 'safetensors', str(out))
    assert sorted(os.listdir(tmp_path)) == ['a.safetensors', 'run']
    network = timm.create_model(
        'resnet18',
        num_classes=0,
        **LAYERS,
        channels=[8, 16, 32, 64],
        stem_type='deep',
        stem_width=4,
    )
    assert safetensors.torch.load_file(out).keys() & network.state_dict().keys()


# --- the images of the result


def test_images_that_are_not_here_are_asked_for(context, tmp_path):
    made = context(options=["data.test={'type': 'ImageFolder', 'root': '/none'}"])
    with pytest.raises(
        ConfigError,
        match=r'data.test is not on this machine \(.*/none.*\); give others with --cfg-options '
        r'"data.test=',
    ):
        export(made, 'timm', str(tmp_path / 'a.pth'))


@pytest.mark.parametrize(
    ('options', 'name', 'n'),
    [
        (['data.test=None'], 'train', 20),
        (['data.test=None', 'data.val=7'], 'train', 20),
        (['data.test=None', "data.val={'type': 'Digits', 'split': 'val', 'limit': 7}"], 'val', 7),
    ],
)
def test_without_test_images_it_takes_others(context, photos, tmp_path, options, name, n):
    result = export(
        context(options=[photos.replace('test', 'train', 1), *options]),
        'timm',
        str(tmp_path / 'a.pth'),
    )
    assert (result.source, result.images) == (name, n)


def test_the_images_are_spread_over_the_set_and_unlabelled_ones_will_do(
    context, tmp_path, monkeypatch
):
    rng, folder = np.random.default_rng(0), tmp_path / 'photos'
    folder.mkdir()
    for i in range(9):
        Image.fromarray(rng.integers(0, 256, (20, 30, 3)).astype(np.uint8)).save(
            folder / f'{i}.png'
        )
    (folder / '4.png').write_bytes(b'torn')
    made, seen = context(options=[f"data.test={{'type': 'Images', 'root': {str(folder)!r}}}"]), []
    real = module.Subset
    monkeypatch.setattr(
        module,
        'Subset',
        lambda source, indices: (seen.append(indices.tolist()), real(source, indices))[1],
    )
    assert export(made, 'timm', str(tmp_path / 'a.pth'), images=5).images == 4 and seen == [
        [0, 2, 4, 6, 8]
    ]


ONE = Preprocessing(8, 8, (0.5,) * 3, (0.5,) * 3)


@pytest.mark.parametrize(
    ('theirs', 'sentence'),
    [
        (lambda path: 1 / 0, r'cannot be read back \(ZeroDivisionError: division by zero\)'),
        (
            lambda path: lambda x: 1 / 0,
            r'cannot be run on images of shape \(1, 3, 8, 8\) \(ZeroDivisionError',
        ),
        (lambda path: lambda x: x, r'gives \(1, 3, 8, 8\) for 1 images'),
    ],
)
def test_a_foreign_network_that_fails(image_folder, theirs, sentence):
    source = Images(str(image_folder(classes=1, per_class=4, size=8)))
    encoder = nn.Flatten()
    assert (
        compare_features(
            encoder, lambda path: lambda x: x.flatten(1) + 0.25, Path('x'), source, 'test', ONE
        ).difference
        == 0.25
    )
    with pytest.raises(ConfigError, match=sentence):
        compare_features(encoder, theirs, Path('x'), source, 'test', ONE)


def test_features_that_prove_nothing(image_folder):
    folder = image_folder(classes=1, per_class=2, size=8)
    encoder = nn.Sequential(nn.Flatten(), nn.Hardtanh(0, 1e-30), nn.Threshold(1, 0))
    with pytest.raises(ConfigError, match='all features of 2 test images are 0'):
        compare_features(encoder, lambda path: encoder, Path('x'), Images(str(folder)), 'test', ONE)
    for file in folder.rglob('*.png'):
        file.write_bytes(b'torn')
    with pytest.raises(ConfigError, match='none of the 2 test images can be read'):
        compare_features(encoder, lambda path: encoder, Path('x'), Images(str(folder)), 'test', ONE)


# --- the model card


KNN = dict(name='knn', k=20, temperature=0.07, distance='cosine', bank=100, index=None)


def row(**changes):
    return dict(
        dict(
            metric='knn_top1',
            value=91.234,
            ci95=[88.0, 94.5],
            n=360,
            protocol=dict(name='k=20 | T=0.07'),
            weights='trained',
            network='online',
            layer='backbone',
            test='Digits',
            test_manifest='cafe',
            step=14,
        ),
        **changes,
    )


def test_the_card_says_what_the_checkpoint_and_its_results_say(checkpoint, context, tmp_path):
    path = checkpoint()
    made = context(path=path)
    own = made.checkpoint_hash
    rows = [
        row(value=10.0),
        row(),
        row(weights='random weights', value=77.7),
        row(protocol=KNN, value=90.0),
        row(checkpoint_sha256='other', value=11.11),
        row(network='target', value=22.22),
        row(layer='projector', value=33.33),
        row(value=None),
    ]
    rows = [dict(checkpoint_sha256=own) | each for each in rows]
    mine = dict(
        metric='probe_2_per_class_top1',
        value=55.55,
        std=1.5,
        draws=5,
        n=360,
        weights='trained',
        network='backbone',
        step=14,
        checkpoint='/home/me/checkpoints/step_00000014.pth',
    )
    rows += [mine, dict(mine, step=7, value=44.44)]
    (tmp_path / 'run' / 'results.jsonl').write_text('\n'.join(map(json.dumps, rows)) + '\n{"torn')
    out = tmp_path / 'hub' / 'model.safetensors'
    export(made, 'safetensors', str(out))
    text = (tmp_path / 'hub' / 'README.md').read_text()
    _, front, body = text.split('---\n', 2)
    assert yaml.safe_load(front) == dict(
        tags=['self-supervised-learning', 'byol', 'ssl_zoo'],
        pipeline_tag='image-feature-extraction',
    )
    for said in (
        hashlib.sha256(out.read_bytes()).hexdigest(),
        f'{out.stat().st_size:,} bytes',
        own,
        '| features | 64 |',
        '| input | float32 (B, 3, H, W); dynamic: number of images B, height H and width W; fixed: '
        '3 channels |',
        '| optimizer steps | 14 of 20 images |',
        '| passes over the training images | 2.0 of 2 |',
        '| training images | 140, ',
        '| trained with | torch 2.15.0 |',
        'over 20 test images',
        'Normalize([0.5, 0.4, 0.3], [0.2, 0.3, 0.4])',
        '"hidden_dim": 16',
        '# BYOL: resnet18, online backbone',
    ):
        assert said in body, said
    assert body.split('|---|---|---|---|---|---|---|\n')[1].splitlines() == [
        '| knn_top1 | 91.23 % | 88.00 to 94.50 | 360 | Digits (cafe) | trained | k=20 \\| T=0.07 |',
        '| knn_top1 | 77.70 % | 88.00 to 94.50 | 360 | Digits (cafe) | random weights | k=20 \\| '
        'T=0.07 |',
        '| knn_top1 | 90.00 % | 88.00 to 94.50 | 360 | Digits (cafe) | trained | weighted k-NN, '
        'k=20, T=0.07, cosine, bank of 100, as DINO |',
        '| probe_2_per_class_top1 | 55.55 % | not computed; std 1.50 over 5 draws | 360 | None '
        '(None) | trained | None |',
    ]
    assert str(tmp_path) not in text and '/home/me' not in text
    with safetensors.safe_open(out, 'pt') as file:
        said = file.metadata()
    assert (
        said['format'] == 'pt'
        and said['method'] == 'BYOL'
        and said['checkpoint_sha256'] == own
        and json.loads(said['backbone']) == TINY
    )
    code = body.split('```python\n')[1].split('```')[0].splitlines()
    torch.testing.assert_close(
        features(run_code(code, out.parent)['model']), features(made.encoder), rtol=0, atol=1e-6
    )


def test_the_card_of_imported_weights_says_where_they_are_from_and_no_placeholder(
    context, tmp_path
):
    file, network = tmp_path / 'theirs.pth', build_backbone('resnet18', **LAYERS)
    torch.save(network.state_dict(), file)
    path = import_checkpoint(file, tmp_path / 'in').path
    export(
        context(path=path, options=['data.eval_size=32', 'data.eval_resize=32']),
        'safetensors',
        str(tmp_path / 'out' / 'm.safetensors'),
    )
    text = (tmp_path / 'out' / 'README.md').read_text()
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    for said in (
        '| imported from | `theirs.pth`, layout torchvision |',
        f'| its SHA-256 | `{digest}` |',
        '| optimizer steps | not recorded |',
        '| imported with | ',
        '## Results',
    ):
        assert said in text, said
    for unsaid in (
        '## Training',
        'passes over',
        'training images',
        'ImageFolder',
        'SGD',
        'batch_size',
        'trained with',
        'epochs',
    ):
        assert unsaid not in text, unsaid


def test_a_card_without_results_and_without_places(context, tmp_path):
    folder = tmp_path / 'secret' / 'photos'
    folder.mkdir(parents=True)
    Image.fromarray(np.full((8, 8, 3), 99, np.uint8)).save(folder / '0.png')
    images = f"{{'type': 'Images', 'root': {str(folder)!r}}}"
    export(
        context(options=[f'data.train={images}', 'data.test=None'], network='target'),
        'safetensors',
        str(tmp_path / 'm.safetensors'),
    )
    text = (tmp_path / 'README.md').read_text()
    assert (
        'None is recorded beside the checkpoint.' in text
        and 'secret' not in text
        and '`{"type": "Images"}`' in text
    )


HOSTILE = '<script>x</script> [a](javascript:x) ![b](http://c.d/e) www.f.gh | `g` <http://i.jk>'


def test_a_card_holds_no_html_link_or_address_of_a_checkpoint_or_row(checkpoint, context, tmp_path):
    path = checkpoint()
    content = read_checkpoint(path)
    content['versions'] = {HOSTILE: HOSTILE}
    content['manifest'] = HOSTILE
    content['config']['data']['train'] = dict(type=HOSTILE, root='a')
    torch.save(add_digest(content), path)
    made = context(path=path)
    texts = ('metric', 'protocol', 'test', 'test_manifest', 'n', 'weights')
    hostile = row(checkpoint_sha256=made.checkpoint_hash, **dict.fromkeys(texts, HOSTILE))
    (tmp_path / 'run' / 'results.jsonl').write_text(json.dumps(hostile) + '\n')
    export(made, 'safetensors', str(tmp_path / 'hub' / 'model.safetensors'))
    card = (tmp_path / 'hub' / 'README.md').read_text()
    assert card.count('script') >= 8
    markup = re.sub(r'```.*?```|`[^`\n]*`', '', card.split('---\n', 2)[2], flags=re.DOTALL)
    assert 'script' in markup and not re.search(r'<|(?<!\\)[\[\]]|://|www\.', markup)
    assert all(line.count('|') - line.count('\\|') in (0, 3, 8) for line in markup.splitlines())


def test_a_card_leaves_out_rows_that_no_evaluation_writes(checkpoint, context, tmp_path):
    made = context(path=checkpoint())
    changes = [
        dict(value=10**400),
        dict(value=True),
        dict(value='91'),
        dict(value=float('nan')),
        dict(ci95=['a', 'b']),
        dict(ci95=[10**400, 1]),
        dict(ci95=None, std=10**400),
        dict(protocol=dict(name=3)),
        dict(protocol=dict(name='k-NN', k=[])),
    ]
    rows = [row(checkpoint_sha256=made.checkpoint_hash, **each) for each in [{}, *changes]]
    (tmp_path / 'run' / 'results.jsonl').write_text('\n'.join(map(json.dumps, rows)) + '\n')
    export(made, 'safetensors', str(tmp_path / 'hub' / 'model.safetensors'))
    card = (tmp_path / 'hub' / 'README.md').read_text()
    assert '| knn_top1 | 91.23 % |' in card and 'results.jsonl could not be read' in card
