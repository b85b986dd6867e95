"""The context of an evaluation: network, data, identity of cached features, results row."""

import argparse
import hashlib
import io
import json
import os
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_zoo.build import build_method, load_method
from ssl_zoo.checkpoint import FORMAT, add_digest, checkpoints_in
from ssl_zoo.cli.evaluation_arguments import evaluation_parser, run_evaluation
from ssl_zoo.config.settings import settings_from_dict
from ssl_zoo.data.sources import Source
from ssl_zoo.data.sources.arrays import Digits
from ssl_zoo.engine.trainer import build_trainer
from ssl_zoo.errors import ConfigError, Stopped
from ssl_zoo.evaluation.feature_store import load_features
from ssl_zoo.evaluation.predictions import Predictions
from ssl_zoo.evaluation.protocols import context as module
from ssl_zoo.evaluation.protocols.context import EvaluationContext, image_names
from ssl_zoo.method import Method
from ssl_zoo.registry import METHODS, SOURCES

BACKBONE = dict(name='resnet18', stem='cifar', width=0.125, layers=[1, 1, 1, 1])
SETTINGS = dict(
    method=dict(type='BYOL', backbone=BACKBONE, hidden_dim=32, proj_dim=16),
    data=dict(
        train=dict(type='Digits', split='val', size=8),
        val=40,
        test=dict(type='Digits', split='test', size=8, limit=60),
        mean=[0.5] * 3,
        std=[0.5] * 3,
    ),
    views=[dict(size=8, jitter=[0.4, 0.4, 0.2, 0.1], jitter_p=0.8)] * 2,
    optimizer=dict(type='LARS', momentum=0.9),
    epochs=1,
    batch_size=20,
    base_lr=1.0,
    workers=0,
    online_eval=dict(every=0),
)
X = torch.linspace(-1, 1, 5 * 3 * 8 * 8).view(5, 3, 8, 8).sin()


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A run of 7 steps on 140 digits, and its weights of before."""
    folder = tmp_path_factory.mktemp('run')
    runner = build_trainer(settings_from_dict(SETTINGS), folder)
    before = {k: v.clone() for k, v in runner.method.state_dict().items()}
    runner.fit()
    return checkpoints_in(folder)[0], before


@pytest.fixture
def context(trained, tmp_path):
    """Function: the context of the run, with options; it writes to tmp_path / work."""

    def make(*options, path=None, work='work', **arguments):
        return EvaluationContext(
            str(path or trained[0]), list(options), work_dir=str(tmp_path / work), **arguments
        )

    return make


@pytest.fixture
def untrained(tmp_path):
    """Function: a checkpoint of a method that was not trained; changes are to its config."""

    def make(name='step_00000000.pth', **changes):
        settings = settings_from_dict({**SETTINGS, **changes})
        path = tmp_path / 'other' / 'checkpoints' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(
            add_digest(
                dict(
                    format=FORMAT,
                    config=settings.to_builtin(),
                    step=0,
                    method=build_method(settings).state_dict(),
                )
            ),
            path,
        )
        return path

    return make


def pictures(root: Path, classes: dict, size=8, seed=0) -> str:
    """``root/<class>/<n>.png`` of noise, so many for each class; the config of the set."""
    rng = np.random.default_rng(seed)
    for name, n in classes.items():
        (root / name).mkdir(parents=True)
        for i in range(n):
            Image.fromarray(rng.integers(0, 256, (size, size, 3)).astype(np.uint8)).save(
                root / name / f'{i}.png'
            )
    return f"{{'type': 'ImageFolder', 'root': {str(root)!r}}}"


# --- the network


def test_the_parts_are_those_of_the_checkpoint(context, trained):
    weights = torch.load(trained[0], weights_only=True)['method']
    for name, prefix in (('online', 'online.'), ('target', 'target.network.')):
        method = METHODS.create(SETTINGS['method']).eval()  # filled by hand
        method.online.load_state_dict(
            {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
        )
        with torch.no_grad():
            h, z = method.online.backbone(X), method.online(X)
            assert torch.equal(context(network=name).encoder(X), h) and h.shape == (5, 64)
            assert torch.equal(
                context(network=name, layer='projector').encoder(X), z
            ) and z.shape == (5, 16)
    assert not torch.allclose(context().encoder(X), context(network='target').encoder(X), atol=1e-3)
    assert (
        context().network == 'online'
        and context().layer == 'backbone'
        and context().weights == 'trained'
        and context().step == 7
    )
    assert (context().width, context(layer='projector').width) == (64, 16)
    assert not any(m.training for m in context().method.modules())


def test_dinos_own_choice_is_the_teacher_and_every_methods_is_its_backbone(context, untrained):
    dino = dict(type='DINO', backbone=BACKBONE, hidden_dim=16, bottleneck_dim=8, prototypes=12)
    found = context(path=untrained(method=dino))
    assert found.network == 'target' and found.encoder is found.method.teacher.network.backbone
    online = context(path=untrained(method=dino), network='online', layer='projector')
    assert [m for m in online.encoder] == [
        online.method.student.backbone,
        online.method.student.head,
    ]
    assert context().encoder is not None and context().network == 'online'


@pytest.mark.parametrize(
    ('arguments', 'sentence'),
    [
        (dict(network='teacher'), "BYOL has no 'teacher' network: Allowed: online, target."),
        (
            dict(network='onlin'),
            "BYOL has no 'onlin' network: did you mean 'online'\\? Allowed: online, target.",
        ),
        (
            dict(layer='projecter'),
            "the layer is 'projecter': did you mean 'projector'\\? Allowed: backbone, projector.",
        ),
        (dict(layer=''), "the layer is '': Allowed: backbone, projector."),
        (dict(precision='fp16'), "the precision is 'fp16', but it must be 'float32' or 'bf16'"),
        (dict(batch_size=0), 'the batch size is 0, but it must be at least 1'),
        (dict(seed=-1), 'the seed is -1, but it must be at least 0'),
        (dict(workers=-1), 'workers.* -1, but it must be'),
        (dict(imports=['/none/mine.py']), '/none/mine.py, but there is no such file'),
    ],
)
def test_mistakes_are_told(context, arguments, sentence):
    with pytest.raises(ConfigError, match=sentence):
        context(**arguments)


def test_a_method_without_a_target_or_a_projector_says_so(context, untrained, tmp_path):
    simclr = untrained(method=dict(type='SimCLR', backbone=BACKBONE, proj_dim=8))
    with pytest.raises(ConfigError, match="SimCLR has no 'target' network: Allowed: online."):
        context(path=simclr, network='target')
    assert context(path=simclr, layer='projector').width == 8

    class Bare(Method):
        def __init__(self):
            super().__init__()
            self.backbone, self.embed_dim = torch.nn.Flatten(), 192

    bare = Bare()
    assert (
        bare.main_network == 'online'
        and bare.encoder() is bare.backbone
        and bare.encoder('online') is bare.backbone
    )
    with pytest.raises(
        ConfigError,
        match="Bare has no projector under the name 'projector', so only its backbone can be "
        'evaluated',
    ):
        bare.encoder(layer='projector')


def test_random_weights_are_those_before_training(context, trained):
    path, before = trained
    found = context(random_weights=True)
    assert found.weights == 'random weights' and found.step == 0
    assert all(torch.equal(v, before[k]) for k, v in found.method.state_dict().items())
    after = context().method.state_dict()
    assert [k for k in before if not torch.equal(after[k], before[k])]
    method, settings, step = load_method(path, random_weights=True)
    assert (
        step == 0
        and not method.training
        and all(torch.equal(v, before[k]) for k, v in method.state_dict().items())
    )
    torch.manual_seed(123)  # whatever was drawn before
    assert torch.equal(context(random_weights=True).encoder(X), found.encoder(X))
    assert torch.equal(
        context(random_weights=True, seed=5).encoder(X), found.encoder(X)
    )  # the evaluation's seed is another
    target = context(random_weights=True, network='target', layer='projector').encoder(X)
    assert not torch.allclose(target, context(random_weights=True, layer='projector').encoder(X))


def test_a_fresh_encoder_is_a_copy_or_a_new_draw(context):
    found = context(network='target', layer='projector')
    fresh = found.fresh_encoder(3).eval()
    assert torch.equal(fresh(X), found.encoder(X)) and fresh is not found.encoder
    before = found.encoder(X)
    with torch.no_grad():
        for p in fresh.parameters():
            p.zero_()
    assert torch.equal(found.encoder(X), before)
    drawn = context(random_weights=True)
    first, again, second = (drawn.fresh_encoder(draw).eval()(X) for draw in (0, 0, 1))
    assert (
        torch.equal(first, drawn.encoder(X))
        and torch.equal(first, again)
        and not torch.allclose(first, second)
    )


def test_a_checkpoint_that_cannot_be_used_gets_a_sentence(context, untrained, trained, tmp_path):
    content = torch.load(trained[0], weights_only=True)
    torn, foreign, unknown, unfit = (
        tmp_path / f'{name}.pth' for name in ('torn', 'foreign', 'unknown', 'unfit')
    )
    torn.write_bytes(trained[0].read_bytes()[:5000])
    torch.save(dict(state_dict={}), foreign)
    torch.save({**content, 'format': 'ssl_zoo checkpoint 1'}, tmp_path / 'old.pth')
    torch.save([1, 2], tmp_path / 'list.pth')
    torch.save(
        add_digest(
            {
                **content,
                'config': {**content['config'], 'method': dict(type='BYOLL', backbone=BACKBONE)},
            }
        ),
        unknown,
    )
    torch.save(
        add_digest(
            {
                **content,
                'config': {
                    **content['config'],
                    'method': {**content['config']['method'], 'hidden_dim': 48},
                },
            }
        ),
        unfit,
    )
    for path, sentence in (
        (tmp_path / 'none.pth', 'there is no checkpoint at /'),
        (tmp_path, 'there is no checkpoint at /'),
        (torn, 'torn.pth is not a readable checkpoint'),
        (foreign, 'foreign.pth is not a checkpoint of ssl_zoo'),
        (tmp_path / 'old.pth', 'is not a checkpoint of ssl_zoo'),
        (tmp_path / 'list.pth', 'is not a checkpoint'),
        (unknown, "'BYOLL' is not a registered method: did you mean 'BYOL'"),
        (unfit, 'does not fit BYOL: size mismatch'),
    ):
        with pytest.raises(ConfigError, match=sentence) as error:
            context(path=path)
        assert '\n' not in str(error.value)


def test_an_unknown_method_is_answered_with_the_option_that_helps(context, trained, tmp_path):
    content = torch.load(trained[0], weights_only=True)
    torch.save(
        add_digest({**content, 'config': {**content['config'], 'method': dict(type='MineAlone')}}),
        tmp_path / 'mine.pth',
    )
    with pytest.raises(
        ConfigError, match='--imports'
    ):  # a checkpoint has no `imports` that anyone would read
        context(path=tmp_path / 'mine.pth')


@pytest.mark.parametrize(
    'option',
    [
        'epochs=3',
        'method.hidden_dim=3',
        "method={'type': 'SimCLR'}",
        'seed=1',
        'precision=bf16',
        'views.0.size=9',
        'batch_size=10',
        'optimizer.momentum=0',
        'imports=["x.py"]',
        'datas.val=3',
        ' data.val=3',
        '=3',
        '',
    ],
)
def test_an_option_that_would_change_what_was_trained_is_refused(trained, option):
    with pytest.raises(
        ConfigError,
        match='would change what was trained; an evaluation can change data, workers, '
        'channels_last',
    ):
        load_method(trained[0], [option])
    with pytest.raises(ConfigError, match='would change what was trained'):
        load_method(trained[0], ['data.val=30', option], random_weights=True)


@pytest.mark.parametrize(
    ('option', 'sentence'),
    [
        ('data', 'is not of the form key=value'),
        ('data.val', 'is not of the form key=value'),
        ('data.tst=3', "data.tst is not a config key: did you mean 'test'"),
        ('data=3', r'data=3, but it must be dict\(...\)'),
        ('data.train=3', 'data.train=3 is of type int'),
        ('data.train.split.x=3', 'holds no keys'),
        ('data.mean=[1,2]', 'three numbers'),
        ('channels_last=3', 'channels_last=3 is of type int'),
        ('workers=-1', 'workers=-1'),
        ('data.eval_size=9', 'eval_size=9|eval_resize'),
    ],
)
def test_a_wrong_change_to_the_data_is_told(trained, option, sentence):
    if option == 'data.eval_size=9':
        assert load_method(trained[0], [option])[1].eval_geometry() == (9, 9)
        option = 'data.eval_resize=7'
    with pytest.raises(ConfigError, match=sentence):
        load_method(trained[0], [option])


def test_changes_to_the_data_are_taken_and_the_file_stays(trained):
    before = trained[0].read_bytes()
    method, settings, step = load_method(
        trained[0],
        [
            'data.val=None',
            'data.test.limit=30',
            'workers=2',
            'channels_last=True',
            'data.mean=[0.1,0.2,0.3]',
            'data.eval_size=6',
            'data.eval_resize=7',
        ],
    )
    assert (
        settings.data.val,
        settings.data.test['limit'],
        settings.workers,
        settings.channels_last,
    ) == (None, 30, 2, True)
    assert (
        settings.data.mean == (0.1, 0.2, 0.3) and settings.eval_geometry() == (6, 7) and step == 7
    )
    plain = load_method(trained[0])[0].state_dict()
    assert all(torch.equal(v, plain[k]) for k, v in method.state_dict().items())
    assert trained[0].read_bytes() == before


# --- the data


@pytest.mark.long
def test_sources_are_those_of_the_config(context):
    found = context().sources
    assert [len(found[name]) for name in ('train', 'val', 'test')] == [140, 40, 60]
    names = [
        {source.name(i) for i in range(len(source))} for source in (found['train'], found['val'])
    ]
    assert not names[0] & names[1] and names[0] | names[1] == {
        Digits('val').name(i) for i in range(180)
    }
    assert context().classes == 10 and context('data.val=None').sources['val'] is None
    assert len(context('data.val=None').sources['train']) == 180


def test_what_is_missing_is_said_with_the_option_that_gives_it(context, tmp_path):
    with pytest.raises(
        ConfigError, match=r'the config has no data.test: .*--cfg-options "data.test='
    ):
        context('data.test=None').source('test')
    with pytest.raises(
        ConfigError,
        match='the config has no data.val: choices are made on images held out .*--cfg-options '
        'data.val=0.1',
    ):
        context('data.val=None').source('val')
    folder = pictures(tmp_path / 'p', dict(a=5, b=5))
    unlabelled = folder.replace('ImageFolder', 'Images')
    with pytest.raises(
        ConfigError, match=r'data.train \(Images\) has no labels.*--cfg-options "data.train='
    ):
        context(f'data.train={unlabelled}', 'data.val=3', 'data.test=None').source('train')
    with pytest.raises(ConfigError, match='data.val has no labels, and choices need them'):
        context(f'data.train={folder}', f'data.val={unlabelled}', 'data.test=None').source('train')


@pytest.mark.parametrize('part', ['train', 'test'])
def test_a_labelled_test_set_is_not_called_superfluous_by_an_evaluation(context, tmp_path, part):
    folder = pictures(tmp_path / 'p', dict(a=5, b=5))
    parts = dict(train=folder, test=folder) | {part: folder.replace('ImageFolder', 'Images')}
    with pytest.raises(ConfigError, match=f'data.{part}.* has no labels') as error:
        context(*[f'data.{key}={value}' for key, value in parts.items()], 'data.val=3').source(
            'test'
        )
    assert 'leave data.test out' not in str(
        error.value
    )  # an evaluation then says that it needs one


def test_classes_keep_the_numbers_they_have_in_training(context, tmp_path):
    train = pictures(tmp_path / 'train', dict(ant=4, bee=4, cat=0, dog=4))
    test = pictures(tmp_path / 'test', dict(bee=2, dog=3))
    found = context(f'data.train={train}', 'data.val=3', f'data.test={test}')
    assert found.source('test').labels.tolist() == [1, 1, 3, 3, 3] and found.classes == 4
    assert sorted(set(found.source('train').labels)) == [0, 1, 3]
    strange = pictures(tmp_path / 'strange', dict(bee=1, zebra=1))
    for key in ('test', 'val'):
        sentence = (
            f'data.{key} has classes that data.train does not have: zebra; '
            f'data.train has 4: ant, bee, cat'
        )
        with pytest.raises(ConfigError, match=sentence):
            context(
                f'data.train={train}', 'data.val=3', f'data.test={test}', f'data.{key}={strange}'
            ).source('test')


class Unnamed(Source):
    """Images without names for their classes."""

    def __init__(self, n: int, most: int = 4):
        self.n, self.labels = n, np.arange(n) % (most + 1)

    def __len__(self):
        return self.n

    def read(self, i):
        return Image.fromarray(np.full((8, 8, 3), i, np.uint8))


def test_classes_without_names_and_sets_without_images(context, monkeypatch):
    monkeypatch.setitem(SOURCES.module_dict, 'Unnamed', Unnamed)
    own = "{'type': 'Unnamed', 'n': 12}"
    assert context(f'data.train={own}', 'data.val=3', f'data.test={own}').classes == 5
    assert image_names(Unnamed(3), np.array([2, 0])) == ['Unnamed image 2', 'Unnamed image 0']
    with pytest.raises(ConfigError, match='data.test has no images'):
        context(f'data.train={own}', 'data.val=3', f'data.test={own.replace("12", "0")}').source(
            'test'
        )


def test_preprocessing_workers_and_device_are_the_configs(context, monkeypatch):
    options = (
        'data.eval_size=6',
        'data.eval_resize=7',
        'data.std=[0.1,0.2,0.3]',
        'channels_last=True',
    )
    found = context(*options, precision='bf16').preprocessing
    assert (found.size, found.resize, found.mean, found.std) == (
        6,
        7,
        (0.5, 0.5, 0.5),
        (0.1, 0.2, 0.3),
    )
    assert (found.precision, found.channels_last, found.interpolation) == ('bf16', True, 'bicubic')
    assert (
        context().workers == 0
        and context(workers=3).workers == 3
        and context('workers=2').workers == 2
    )
    for cores, workers in ((4, 3), (100, 8), (1, 0), (None, 1)):
        monkeypatch.setattr('ssl_zoo.data.loader.os.cpu_count', lambda cores=cores: cores)
        assert context('workers=None').workers == workers
    assert context().device == torch.device('cpu') or torch.cuda.is_available()


# --- the cache


@pytest.fixture
def extracted(monkeypatch):
    """The folders that were really extracted into, in order."""
    made, real = [], module.store_features

    def store(network, source, preprocessing, folder, *arguments):
        asked = []
        handle = network.register_forward_hook(lambda *_: asked.append(1))
        try:
            return real(network, source, preprocessing, folder, *arguments)
        finally:
            handle.remove()
            if asked:
                made.append(Path(folder))

    monkeypatch.setattr(module, 'store_features', store)
    return made


def test_features_are_the_networks_and_are_made_once(context, extracted, tmp_path):
    found = context()
    source = found.source('test')
    features = found.features(source, 'test')
    pixels = torch.stack(
        [torch.from_numpy(np.asarray(source.read(i)).copy()) for i in range(60)]
    ).permute(0, 3, 1, 2)
    with torch.no_grad():
        wanted = found.method.embed(pixels / 127.5 - 1)
    np.testing.assert_allclose(features.values, wanted, atol=1e-4)
    assert features.labels.tolist() == source.labels.tolist()
    again = context()
    assert (
        again.features(again.source('test'), 'test').values.tobytes() == features.values.tobytes()
    )
    assert (
        len(extracted) == 1
        and extracted[0].parent == tmp_path / 'work' / 'features'
        and extracted[0].name.startswith('test-')
    )
    assert load_features(extracted[0]).values.tobytes() == features.values.tobytes()
    context(batch_size=7, seed=4).features(source, 'test')  # nothing that features depend on
    assert len(extracted) == 1


@pytest.mark.long
def test_every_part_of_the_key_changed_alone_is_another_extraction(
    context, trained, untrained, extracted, tmp_path
):
    def extract(*options, dtype='float32', **arguments):
        found = context(*options, **arguments)
        return found.features(found.source('test'), 'test', dtype)

    other = untrained(method=SETTINGS['method'])  # the same method, other weights
    variants = [
        {},
        dict(path=other),
        dict(random_weights=True),
        dict(network='target'),
        dict(layer='projector'),
        dict(precision='bf16'),
        dict(dtype='float16'),
        'data.mean=[0.5,0.5,0.4]',
        'data.std=[0.5,0.5,0.4]',
        'data.eval_size=7',
        'data.eval_resize=9',
        'channels_last=True',
        'data.test.limit=59',
        'data.test.size=9',
        'data.test.split=train',
    ]
    for _ in range(2):  # the second time they are all there
        for variant in variants:
            extract(variant) if isinstance(variant, str) else extract(**variant)
        assert len(set(extracted)) == len(extracted) == len(variants)
    assert extract(dtype='float16').values.dtype == np.float16
    moved = tmp_path / 'moved.pth'
    shutil.copy(trained[0], moved)
    extract(path=moved)  # the same content elsewhere
    assert len(extracted) == len(variants)


@pytest.fixture
def photos(context, tmp_path):
    """Function: the features of 30 photos, 10 of each class, whatever they hold at the moment."""
    config = pictures(tmp_path / 'photos', dict(a=10, b=10, c=10))

    def extract():
        found = context(f'data.train={config}', 'data.val=None', 'data.test=None')
        return found.features(found.source('train'), 'train')

    return tmp_path / 'photos', extract


def test_exchanged_files_of_the_same_names_are_noticed(photos, extracted, tmp_path):
    root, extract = photos
    old = extract().values.copy()
    shutil.rmtree(root)
    pictures(root, dict(a=10, b=10, c=10), seed=1)
    new = extract().values
    assert len(extracted) == 2 and len(new) == 30 and not np.allclose(old, new, atol=1e-3)
    for path in root.rglob('*.png'):  # the same pictures, larger
        Image.open(path).resize((16, 16), Image.Resampling.NEAREST).save(path)
    extract()
    assert len(extracted) == 3
    (root / 'a' / '3.png').rename(root / 'a' / '33.png')
    extract()
    (root / 'a' / '33.png').rename(root / 'b' / '33.png')  # another label
    assert extract().labels.tolist() == [0] * 9 + [1] * 11 + [2] * 10 and len(extracted) == 5


@pytest.mark.long
@pytest.mark.parametrize('broken', ['all', 'a/0.png', 'b/4.png', 'c/9.png'])
def test_a_repaired_image_is_taken_in(photos, extracted, broken):
    root, extract = photos
    kept = {
        path: path.read_bytes()
        for path in root.rglob('*.png')
        if broken in ('all', path.relative_to(root).as_posix())
    }
    for path in kept:
        path.write_bytes(b'torn')
    if broken == 'all':
        with pytest.raises(
            ConfigError, match='none of the 30 images can be read, the first is a/0.png'
        ):
            extract()
    else:
        assert len(extract().values) == 29 and len(extract().unreadable) == 1
    for path, content in kept.items():
        path.write_bytes(content)
    assert len(extract().values) == 30 and extract().unreadable == []


def test_a_folder_of_a_training_is_that_of_its_network_data_and_recipe(context, tmp_path):
    folder = context().folder('probe', recipe=dict(lr=1), data='abc')
    assert (
        folder == context(batch_size=3).folder('probe', data='abc', recipe=dict(lr=1))
        and folder.parent == tmp_path / 'work' / 'probe'
    )
    others = [
        context().folder('probe', recipe=dict(lr=2), data='abc'),
        context().folder('other', recipe=dict(lr=1), data='abc'),
        context(network='target').folder('probe', recipe=dict(lr=1), data='abc'),
        context(random_weights=True).folder('probe', recipe=dict(lr=1), data='abc'),
        context('data.eval_resize=9').folder('probe', recipe=dict(lr=1), data='abc'),
    ]
    assert len({folder, *others}) == 6


def test_by_default_the_runs_directory_is_used_from_wherever_it_is_named(
    trained, tmp_path, monkeypatch
):
    run = trained[0].parents[1]
    assert EvaluationContext(str(trained[0])).work_dir == run
    monkeypatch.chdir(run)
    assert EvaluationContext(f'checkpoints/{trained[0].name}').work_dir.resolve() == run
    monkeypatch.chdir(run / 'checkpoints')
    assert EvaluationContext(trained[0].name).work_dir.resolve() == run
    shutil.copy(trained[0], tmp_path / 'alone.pth')
    assert EvaluationContext(str(tmp_path / 'alone.pth')).work_dir == tmp_path


# --- the row


def by_hand(source) -> str:
    """The manifest: names and labels."""
    lines = ''.join(f'{source.name(i)}\t{source.labels[i]}\n' for i in range(len(source)))
    return hashlib.sha256(lines.encode()).hexdigest()[:16]


def report(found, metric='top1', **more):
    test = found.source('test')
    rng = np.random.default_rng(0)
    kept = np.delete(np.arange(60), [5, 7])  # two could not be read
    predicted = np.stack([rng.permutation(10)[:5] for _ in kept])
    row = found.report(
        'probe',
        metric,
        predicted,
        test.labels[kept],
        image_names(test, kept),
        test,
        dict(name='nearest centroid', distance='cosine'),
        dict(shift=0.5),
        **more,
    )
    return row, predicted, test.labels[kept], kept


def test_a_row_holds_all_it_takes_to_judge_a_figure_and_to_make_it_again(
    context, trained, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(sys, 'argv', ['tools/x.py', 'a b.pth', '--seed', '3'])
    found = context('data.test.limit=60', network='target', layer='projector', seed=3)
    row, predicted, labels, kept = report(found, lr=0.5)
    assert row == json.loads((tmp_path / 'work' / 'results.jsonl').read_text())
    right = sum(int(p[0] == t) for p, t in zip(predicted, labels, strict=True))
    five = sum(int(t in p) for p, t in zip(predicted, labels, strict=True))
    assert (
        row['metric'] == 'probe_top1'
        and row['n'] == 58
        and row['left_out'] == 2
        and row['protocol'] == dict(name='nearest centroid', distance='cosine')
        and row['chosen'] == dict(shift=0.5)
    )
    assert row['value'] == pytest.approx(100 * right / 58) and row['top5'] == pytest.approx(
        100 * five / 58
    )
    low, high = row['ci95']
    normal = 1.96 * (row['value'] * (100 - row['value']) / 58) ** 0.5
    assert low < row['value'] < high and high - low == pytest.approx(2 * normal, rel=0.25)
    assert row['checkpoint_sha256'] == hashlib.sha256(trained[0].read_bytes()).hexdigest()[
        :16
    ] and row['checkpoint'] == str(trained[0])
    assert (row['weights'], row['network'], row['layer'], row['step']) == (
        'trained',
        'target',
        'projector',
        7,
    )
    assert (row['seed'], row['lr']) == (3, 0.5)
    assert row['test'] == 'Digits' and row['test_manifest'] == by_hand(found.source('test'))
    assert (
        row['config'] == found.settings.to_builtin()
        and row['config']['method']['type'] == 'BYOL'
        and row['config']['seed'] == 0
    )
    assert row['versions']['torch'] == torch.__version__ and {
        'ssl_zoo',
        'timm',
        'python',
        'platform',
        'device',
    } <= set(row['versions'])
    assert (
        0 <= row['seconds'] < 60
        and abs((datetime.now(UTC) - datetime.fromisoformat(row['time'])).total_seconds()) < 60
    )
    assert row['command'] == "tools/x.py 'a b.pth' --seed 3"
    saved = Predictions.load(row['predictions'])
    assert Path(row['predictions']).parent == tmp_path / 'work' / 'predictions'
    assert (
        saved.predicted.tolist() == predicted.tolist() and saved.labels.tolist() == labels.tolist()
    )
    assert (
        saved.names.tolist() == [found.source('test').name(i) for i in kept]
        and saved.row['value'] == row['value']
    )
    printed = capsys.readouterr().out
    assert (
        f'top-1 {row["value"]:.2f} % (95 % interval {low:.2f} to {high:.2f}), top-5 '
        f'{row["top5"]:.2f} % on 58 test images' in printed
    )
    assert (
        '[trained, target projector]' in printed
        and 'nearest centroid, distance cosine, shift 0.5' in printed
        and row['predictions'] in printed
    )


def test_rows_are_added_and_predictions_never_written_over(context, tmp_path):
    rows = [report(context())[0], report(context(random_weights=True))[0], report(context())[0]]
    lines = (tmp_path / 'work' / 'results.jsonl').read_text().splitlines()
    assert [json.loads(line) for line in lines] == rows and len(
        {row['predictions'] for row in rows}
    ) == 3
    assert [row['weights'] for row in rows] == ['trained', 'random weights', 'trained'] and [
        row['step'] for row in rows
    ] == [7, 0, 7]


def test_another_metric_and_few_classes(context, tmp_path):
    row, predicted, labels, _ = report(context(), 'mean_per_class')
    shares = [
        np.mean([p[0] == c for p, t in zip(predicted, labels, strict=True) if t == c])
        for c in sorted(set(labels))
    ]
    assert row['metric'] == 'probe_mean_per_class' and row['value'] == pytest.approx(
        100 * np.mean(shares)
    )
    with pytest.raises(ConfigError, match="the metric is 'top'"):
        report(context(), 'top')
    folder = pictures(tmp_path / 'p', {name: 12 for name in 'abcde'})
    five = context(f'data.train={folder}', 'data.val=None', f'data.test={folder}')
    assert 'top5' not in report(five)[0]  # of five classes it says nothing


def test_only_the_first_process_writes(context, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(module, 'rank', lambda: 1)
    report(context())
    assert not (tmp_path / 'work').exists() and not capsys.readouterr().out


def test_a_result_that_cannot_be_written_is_still_told(trained, capsys):
    with pytest.raises(
        ConfigError, match=r'could not write the result \(top-1 \d+\.\d\d %\) to /proc/none'
    ):
        report(EvaluationContext(str(trained[0]), work_dir='/proc/none'))


# --- the command line


def outcome(arguments, evaluate, monkeypatch, **more):
    err = io.StringIO()
    monkeypatch.setattr(sys, 'stderr', err)
    code = run_evaluation(evaluation_parser('knn', 'doc').parse_args(arguments), evaluate, **more)
    return code, err.getvalue()


def fail(error):
    def evaluate(_):
        raise error

    return evaluate


def test_exit_codes_and_sentences(trained, tmp_path, monkeypatch):
    arguments = [str(trained[0]), '--work-dir', str(tmp_path)]
    assert outcome(arguments, lambda _: 'whatever', monkeypatch) == (0, '')
    assert outcome(arguments, fail(ConfigError('mend this')), monkeypatch) == (
        2,
        'error: mend this\n',
    )
    assert outcome(arguments, fail(FloatingPointError('not finite')), monkeypatch) == (
        3,
        'error: not finite\n',
    )
    code, err = outcome(arguments, fail(Stopped(15, 8)), monkeypatch)
    assert (
        code == 143
        and err == 'stopped by SIGTERM after step 8; the same command goes on from here\n'
    )
    code, err = outcome(arguments, fail(KeyboardInterrupt()), monkeypatch)
    assert code == 130 and 'the same command goes on' in err
    with pytest.raises(ZeroDivisionError):  # a fault of ours keeps its traceback
        outcome(arguments, fail(ZeroDivisionError()), monkeypatch)
    code, err = outcome(['/none.pth'], fail(AssertionError()), monkeypatch)
    assert code == 2 and err == 'error: there is no checkpoint at /none.pth\n'


def test_every_argument_reaches_the_subject(trained, tmp_path, monkeypatch):
    (tmp_path / 'noted.py').write_text('import os\nos.environ["NOTED_BY_TEST_SUBJECT"] = "1"\n')
    monkeypatch.setenv('NOTED_BY_TEST_SUBJECT', '0')
    met = []
    arguments = [
        str(trained[0]),
        '--cfg-options',
        'data.val=30',
        'data.test.limit=50',
        '--network',
        'target',
        '--layer',
        'projector',
        '--random-weights',
        '--work-dir',
        str(tmp_path / 'w'),
        '--imports',
        str(tmp_path / 'noted.py'),
        '--precision',
        'bf16',
        '--eval-batch-size',
        '9',
        '--workers',
        '2',
        '--seed',
        '6',
    ]
    code, err = outcome(arguments, met.append, monkeypatch)
    assert (code, err) == (0, '')
    (found,) = met
    assert (found.network, found.layer, found.weights, found.work_dir) == (
        'target',
        'projector',
        'random weights',
        tmp_path / 'w',
    )
    assert (found.preprocessing.precision, found.batch_size, found.workers, found.seed) == (
        'bf16',
        9,
        2,
        6,
    )
    assert (
        len(found.source('val')) == 30
        and len(found.source('test')) == 50
        and os.environ['NOTED_BY_TEST_SUBJECT'] == '1'
    )
    plain = evaluation_parser('knn', 'doc').parse_args(['x.pth'])
    assert plain == argparse.Namespace(
        checkpoint='x.pth',
        cfg_options=[],
        network=None,
        layer='backbone',
        random_weights=False,
        work_dir=None,
        imports=[],
        precision='float32',
        eval_batch_size=256,
        workers=None,
        seed=0,
        per_class=False,
    )


@pytest.mark.parametrize('world', ['2', '', 'two'])
def test_a_stray_world_size_gets_a_sentence(trained, monkeypatch, world):
    for key in ('RANK', 'LOCAL_RANK', 'MASTER_ADDR', 'MASTER_PORT'):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setenv('WORLD_SIZE', world)  # as clusters and containers leave it
    code, err = outcome([str(trained[0])], lambda _: None, monkeypatch)
    assert (
        (code, err) == (0, '')
        if world == ''
        else code == 2 and err.startswith('error: ') and 'WORLD_SIZE' in err
    )
