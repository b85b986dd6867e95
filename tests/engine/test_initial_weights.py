"""A run that begins with the weights of another: which tensors, what is recorded, mistakes."""

import pytest
import torch

from ssl_zoo.build import build_method, load_method
from ssl_zoo.checkpoint import checkpoints_in, read_checkpoint
from ssl_zoo.config.settings import settings_from_dict
from ssl_zoo.data.data_digest import trained_on
from ssl_zoo.engine.trainer import build_trainer
from ssl_zoo.errors import ConfigError
from ssl_zoo.storage.digest import sha256_of_file

BACKBONE = dict(name='resnet18', stem='cifar', width=0.125, layers=[1, 1, 1, 1])
SIMCLR = dict(type='SimCLR', backbone=BACKBONE, proj_dim=16)


@pytest.fixture(scope='module')
def checkpoint(train_on_digits):
    """The checkpoint of an epoch of BYOL."""
    return train_on_digits()


def test_the_backbone_of_another_method_arrives_bit_for_bit_and_the_rest_is_random(
    tiny, tmp_path, checkpoint
):
    settings = tiny(method=SIMCLR, init_from=str(checkpoint), seed=3)
    method = build_trainer(settings, tmp_path).method
    given = read_checkpoint(checkpoint)['method']
    own, random = method.state_dict(), build_method(settings).state_dict()
    for key, value in own.items():
        if key.startswith('backbone.'):
            assert torch.equal(value, given[f'online.{key}']), key
        else:
            assert torch.equal(value, random[key]), key
    assert not torch.equal(own['backbone.conv1.weight'], random['backbone.conv1.weight'])


def test_an_average_begins_with_the_same_backbone(tiny, tmp_path, checkpoint):
    method = build_trainer(tiny(init_from=str(checkpoint), seed=3), tmp_path).method
    online = method.online.backbone.state_dict()
    target = method.target.network.backbone.state_dict()
    assert all(torch.equal(value, target[key]) for key, value in online.items())


def test_more_epochs_begin_with_the_whole_method_and_the_file_is_not_needed_afterwards(
    tiny, tmp_path, checkpoint
):
    copy = tmp_path / 'copy.pth'
    copy.write_bytes(checkpoint.read_bytes())
    settings = tiny(init_from=dict(file=str(copy), part='method'), epochs=1, seed=3)
    trainer = build_trainer(settings, tmp_path / 'more')
    given = read_checkpoint(copy)
    assert all(
        torch.equal(value, given['method'][key])
        for key, value in trainer.method.state_dict().items()
    )
    trainer.fit()
    content = read_checkpoint(checkpoints_in(tmp_path / 'more')[0])
    assert content['began_with'] == dict(
        file=str(copy),
        part='method',
        sha256=sha256_of_file(copy),
        step=given['step'],
        train_data=trained_on(given),
    )
    other = dict(settings.to_builtin(), init_from=None)
    with pytest.raises(ConfigError, match='cannot resume: init_from was'):
        build_trainer(settings_from_dict(other), tmp_path / 'more', resume=True)
    loaded, _, _ = load_method(checkpoints_in(tmp_path / 'more')[0])
    assert 'the run began with weights of' in loaded.warnings[-1]
    assert 'begins with the whole method from' in (tmp_path / 'more/train.log').read_text()
    copy.unlink()
    resumed = build_trainer(settings, tmp_path / 'more', resume=True)
    assert resumed.checkpoints.began_with == content['began_with']


def test_random_weights_stay_random_and_the_start_is_measured_too(tiny, tmp_path, checkpoint):
    data = dict(
        train=dict(type='Digits', split='val', limit=140), val=40, mean=[0.5] * 3, std=[0.5] * 3
    )
    changes = dict(data=data, online_eval=dict(every=1), epochs=1)
    lines = []
    for name, init in (('with', str(checkpoint)), ('without', None)):
        build_trainer(tiny(init_from=init, **changes), tmp_path / name).fit()
        log = (tmp_path / name / 'train.log').read_text().splitlines()
        lines.append([line.split('  ')[2:5] for line in log if 'val images' in line])
    assert lines[0][0] == lines[1][0]  # random weights
    assert len(lines[0]) == len(lines[1]) + 1 and lines[0][1] != lines[0][0]


@pytest.mark.parametrize(
    ('change', 'sentence'),
    [
        (dict(file='nowhere.pth'), r'init_from: there is no checkpoint at .*nowhere\.pth'),
        (dict(part='head'), "init_from.part is 'head'"),
        (dict(weights='x'), 'it must be the path of a checkpoint, or dict'),
    ],
)
def test_mistakes_get_a_sentence(tiny, tmp_path, checkpoint, change, sentence):
    init = {'file': str(checkpoint), **change}
    with pytest.raises(ConfigError, match=sentence):
        build_trainer(tiny(init_from=init), tmp_path / 'run')


@pytest.mark.parametrize(
    ('backbone', 'sentence'),
    [
        (dict(BACKBONE, width=0.25), r'conv1\.weight of the backbone is \(8, 3, 3, 3\) in'),
        (dict(BACKBONE, layers=[2, 1, 1, 1]), "holds no backbone with the names of this config's"),
    ],
)
def test_another_backbone_is_refused(tiny, tmp_path, checkpoint, backbone, sentence):
    settings = tiny(method=dict(SIMCLR, backbone=backbone), init_from=str(checkpoint))
    with pytest.raises(ConfigError, match=sentence):
        build_trainer(settings, tmp_path / 'run')
    assert not (tmp_path / 'run').exists()


def test_the_refusal_of_more_epochs_names_the_way(tiny, tmp_path):
    build_trainer(tiny(epochs=1), tmp_path).fit()
    with pytest.raises(ConfigError, match=r"init_from=dict\(file='\.\.\.', part='method'\)"):
        build_trainer(tiny(epochs=2), tmp_path, resume=True)
