import re

import pytest

from ssl_zoo.build import build_method
from ssl_zoo.config.loading import import_file, load_config
from ssl_zoo.data.sources import build_source
from ssl_zoo.data.splits import data_sources
from ssl_zoo.engine.optim_wrapper import build_optimizer
from ssl_zoo.engine.plan import Plan
from ssl_zoo.errors import ConfigError
from ssl_zoo.studies.load import load_study

CONFIG = '''
"""A config of the tests."""
_base_ = './base.py'
_size = 20
_backbone = dict(name='resnet18', stem='cifar', width=0.125)
method = dict(type='BYOL', backbone=_backbone, hidden_dim=32, proj_dim=16)
views = [dict(size=_size), dict(size=_size, solarize_p=0.2)]
optimizer = dict(type='LARS', momentum=0.9)
batch_size = 32
'''
BASE = """
data = dict(train=dict(type='Digits'), val=0.1)
epochs = 100
presets = [
    dict(epochs=40, base_lr=0.45, weight_decay=1e-6, method=dict(base_ema=0.97)),
    dict(epochs=100, base_lr=0.45, weight_decay=1e-6, method=dict(base_ema=0.99)),
    dict(epochs=300, base_lr=0.3, weight_decay=1e-6, method=dict(base_ema=0.99)),
    dict(epochs=1000, base_lr=0.2, weight_decay=1.5e-6, method=dict(base_ema=0.996)),
]
"""


@pytest.fixture
def config(tmp_path):
    (tmp_path / 'base.py').write_text(BASE)
    (tmp_path / 'config.py').write_text(CONFIG)
    return tmp_path / 'config.py'


@pytest.mark.parametrize(
    ('epochs', 'base_lr', 'weight_decay', 'base_ema'),
    [
        (40, 0.45, 1e-6, 0.97),
        (100, 0.45, 1e-6, 0.99),
        (300, 0.3, 1e-6, 0.99),
        (1000, 0.2, 1.5e-6, 0.996),
        (200, 0.3, 1e-6, 0.99),
        (400, 0.3, 1e-6, 0.99),
        (800, 0.2, 1.5e-6, 0.996),
    ],
)  # SimSiam's choices, footnote 6
def test_presets_follow_from_epochs(config, epochs, base_lr, weight_decay, base_ema):
    settings = load_config(config, [f'epochs={epochs}'])
    assert (settings.base_lr, settings.weight_decay, settings.method['base_ema']) == (
        base_lr,
        weight_decay,
        base_ema,
    )
    assert settings.method['hidden_dim'] == 32


def test_what_is_stated_wins_over_the_preset(config):
    settings = load_config(config, ['epochs=300', 'base_lr=0.7', 'method.base_ema=0.5'])
    assert (settings.base_lr, settings.method['base_ema'], settings.weight_decay) == (
        0.7,
        0.5,
        1e-6,
    )


def test_options_reach_everywhere(config):
    settings = load_config(
        config,
        [
            'method.backbone.name=resnet50',
            'views.1.solarize_p=0.5',
            'views.0.crop=(0.2, 1)',
            'data.val=40',
            'online_eval.every=0',
            'precision=bf16',
            'channels_last=true',
            'workers=none',
            'data.train.limit=100',
            'method.backbone={"name": "resnet34"}',
        ],
    )
    assert settings.method['backbone'] == {'name': 'resnet34'}
    assert settings.build_views()[1].solarize_p == 0.5 and settings.build_views()[0].crop == (
        0.2,
        1,
    )
    assert settings.data.val == 40 and settings.data.train == dict(type='Digits', limit=100)
    assert (
        settings.online_eval.every == 0
        and settings.channels_last is True
        and settings.workers is None
    )


def test_a_text_that_looks_like_a_number_stays_as_it_was_written(config):
    options = ['data.train={"type": "ImageFolder"}', 'data.train.root=0x2024', 'data.val.root=1_0']
    options.insert(2, 'data.val={"type": "ImageFolder"}')
    data = load_config(config, options).data
    assert (data.train['root'], data.val['root']) == ('0x2024', '1_0')
    data = load_config(config, ['data.train.split=1e5', 'data.train.size=24']).data
    assert (data.train['split'], data.train['size']) == ('1e5', 24)


def test_a_number_for_a_text_in_a_config_is_told():
    with pytest.raises(ConfigError, match='root=2024, a number, but it must be a text'):
        build_source(dict(type='ImageFolder', root=2024))


@pytest.mark.parametrize(
    ('option', 'sentence'),
    [
        ('epoch=3', "epoch is not a config key: did you mean 'epochs'"),
        ('data.trian.root=x', "'trian', which data does not have: did you mean 'train'"),
        ('data.vall=3', "data.vall is not a config key: did you mean 'val'"),
        ('online_eval.evry=3', "online_eval.evry is not a config key: did you mean 'every'"),
        ('method.type=BYLO', "'BYLO' is not a registered method: did you mean 'BYOL'"),
        (
            'method.hiden_dim=3',
            "method 'BYOL' has no argument 'hiden_dim': did you mean 'hidden_dim'",
        ),
        ('method.backbone.nme=x', "'resnet18' does not take these arguments .*nme"),
        ('views.0.blur=1', "views.0 has an unknown key 'blur': did you mean 'blur_p'"),
        ('views.7.size=1', 'items 0 to 1'),
        ('views.x.size=1', "names item 'x'"),
        ('optimizer.mometum=0', "'LARS' has no argument 'mometum': did you mean 'momentum'"),
        ('optimizer.type=LASR', "did you mean 'LARS'"),
        ('data.train.typ=x', "source 'Digits' has no argument 'typ'"),
        ('epochs.x=3', 'holds no keys'),
        ('epochs', 'not of the form key=value'),
        ('epochs=ten', "epochs='ten' is of type str, but it must be float"),
        ('epochs=0', 'epochs=0, but it must be a number above 0'),
        ('epochs=True', 'is of type bool'),
        ('batch_size=0.5', 'must be int'),
        ('batch_size=1', 'a whole number of at least 2'),
        ('accumulate=5', 'a divisor of batch_size=32'),
        ('precision=fp16', "precision='fp16', but it must be 'float32' or 'bf16'"),
        ('warmup_epochs=100', 'less than epochs=100'),
        ('workers=-1', 'workers=-1'),
        ('views=[]', 'one dict per view'),
        ('data=3', 'must be dict'),
        ('data.mean=(1,2)', 'three numbers'),
        ('method.backbone=resnet18', 'must be dict'),
        ('data.max_unreadable=2', 'a number from 0 to 1'),
        ('checkpoint.keep=0', 'at least 1'),
        ('views=[{"size": 20}]', "views='1 views', but it must be 2 views for BYOL"),
        ('views=[3, 3]', 'views.0=3, but it must be dict'),
        ('views.0.size=True', 'positive number of pixels'),
        ('epochs=1e400', 'epochs=inf is not a finite number'),
        ('views.0.ratio=(1, 1e400)', 'views.0.ratio.1=inf'),
        ('method.hidden_dim=0', 'an MLP of widths'),
        ('method.hidden_dim=abc', 'an MLP of widths'),
        ('method.base_ema=2', 'base_ema=2, but it must be a number from 0 to 1'),
        (
            'method.backbone.width="wide"',
            "width of the backbone is 'wide', but it must be a number above 0",
        ),
        (
            'method.backbone={"name": "resnet18", 1: 2}',
            "method 'BYOL' cannot be built with these values",
        ),
        ('schedule.shape=step', "schedule.shape='step', but it must be 'cosine' or 'steps'"),
        ('schedule.end=2', 'schedule.end=2, but it must be a number from 0 to 1'),
        ('schedule.milestones=(1,)', "empty for shape='cosine'"),
        ('schedule={"shape": "steps", "milestones": (1, 900)}', 'before epochs='),
        ('schedule={"shape": "steps", "milestones": (2, 1)}', 'epochs above 0, rising'),
        ('clip_grad=0', 'clip_grad=0, but it must be a number above 0, or None'),
        ('weight_decay_end=-1', 'weight_decay_end=-1'),
        ('norm_and_bias_lr=-1', 'norm_and_bias_lr=-1'),
        ('method.self=2', "has no argument 'self'"),
        ('method.backbone={}', "the backbone has neither 'name', that of a timm model, nor 'type'"),
        ('optimizer.lr=0.1', 'optimizer.lr is set by the run, from base_lr'),
        ('optimizer.weight_decay=0.1', 'optimizer.weight_decay is set by the run'),
        ('optimizer={"type": "SGD", "momentum": -1}', "optimizer 'SGD' cannot be built"),
        ('online_eval.bank=0', 'online_eval.bank=0'),
        ('online_eval.temperature=0', 'above 0'),
        ('accumulate=32', 'two images per pass'),
        ('batch_size=1000000', 'less than one batch_size=1000000'),
        ('data.std=(0,1,1)', 'three numbers above 0'),
        ('data.eval_size=-5', 'above 0'),
        ('data.mean=(123.675, 116.28, 103.53)', r'from 0 to 1.*data.mean=\(0.485, 0.456, 0.406\)'),
        ('data.std=[58.395, 57.12, 57.375]', r'above 0 to 1.*data.std=\(0.229, 0.224, 0.225\)'),
        ('data.mean=(-0.5, 0, 0)', 'three numbers from 0 to 1, as of pixels'),
        ('data.train.size=0', 'size is 0, but it must be from 1 to 256 pixels'),
        ('seed=18446744073709551616', 'below 2'),
        ('seed=4294967296', 'below 2'),
        ('imports=3', 'must be a list of Python files'),
        ('presets=[{}]', 'a list of dict'),
        ('views.\u00b2=3', 'names item'),
        ('imports=["none.py"]', 'no such file'),
    ],
)
def test_mistakes_get_a_sentence(config, option, sentence):
    with pytest.raises(ConfigError, match=sentence):
        settings = load_config(config, [option])
        plan = Plan.of(settings, len(data_sources(settings.data)['train']))
        build_optimizer(settings, plan, build_method(settings))


def test_a_missing_config_key_or_file(config, tmp_path):
    config.write_text(CONFIG.replace('batch_size = 32', ''))
    with pytest.raises(ConfigError, match='lacks batch_size'):
        load_config(config)
    with pytest.raises(ConfigError, match=re.escape(str(tmp_path / 'none.py'))):
        load_config(tmp_path / 'none.py')
    config.write_text('epochs = = 3')
    with pytest.raises(ConfigError, match='cannot be read: .*invalid syntax'):
        load_config(config)


@pytest.fixture
def hostile_yaml(tmp_path):
    """YAML that makes the file 'executed' when mmengine reads it, under several names."""
    text = f"epochs: !!python/object/apply:os.system ['touch {tmp_path}/executed']\n"
    names = ('a.yaml', 'a.yml', 'a.json', 'a.PY', 'a.txt')
    for name in names:
        (tmp_path / name).write_text(text)
    yield names
    assert not (tmp_path / 'executed').exists()


def test_only_a_python_file_is_a_config_a_study_or_an_import(hostile_yaml, tmp_path):
    for name in hostile_yaml:
        for read in (load_config, load_study, import_file):
            with pytest.raises(ConfigError, match=f'{name} is not a .py file'):
                read(str(tmp_path / name))


@pytest.mark.parametrize('template', ["'{}'", "['b.py', '{}']", "'../{}'"])
def test_a_base_is_a_python_file(hostile_yaml, config, tmp_path, template):
    """A config, and the base of a base, name YAML: nothing of it is read."""
    heir = tmp_path / 'folder' / 'heir.py'
    heir.parent.mkdir()
    (tmp_path / 'b.py').write_text('')
    for name in hostile_yaml:
        file = heir if '..' in template else config
        file.write_text(f'_base_ = {template.format(name)}\n{CONFIG}')
        (tmp_path / 'again.py').write_text(f"_base_ = '{file.relative_to(tmp_path)}'\n")
        for path in (file, tmp_path / 'again.py'):
            with pytest.raises(ConfigError, match=f'_base_ of .*{name} is not a .py file'):
                load_config(path)


@pytest.mark.parametrize(
    ('base', 'sentence'),
    [
        ("'a' + '.yaml'", r"is 'a' \+ '.yaml', but it must be the path"),
        ('[3]', 'must be the path of a .py file'),
        ("'none.py'", "is 'none.py', but there is no such file"),
        ("'config.py'", 'inherits from itself'),
        ("'{{$BASE:a.yaml}}'", 'no such file'),
        ("'mmengine::a.py'", 'no such file'),
    ],
)
def test_a_base_is_written_out_and_exists(hostile_yaml, config, base, sentence):
    config.write_text(f'_base_ = {base}\n{CONFIG}')
    with pytest.raises(ConfigError, match=sentence):
        load_config(config)


def test_settings_survive_being_written_and_read(config, tmp_path):
    from mmengine.config import Config

    settings = load_config(config)
    Config(settings.to_builtin()).dump(str(tmp_path / 'again.py'))
    assert load_config(tmp_path / 'again.py') == load_config(config)


def test_evaluation_size_follows_the_first_view(config):
    assert load_config(config).eval_geometry() == (20, 20)
    assert load_config(config, ['views.0.size=224']).eval_geometry() == (224, 256)
    assert load_config(
        config, ['views.0.size=224', 'data.eval_size=32', 'data.eval_resize=40']
    ).eval_geometry() == (32, 40)


def test_a_study_is_no_config(root):
    with pytest.raises(
        ConfigError, match='digits.py is a study of several methods; run it with tools/study.py'
    ):
        load_config(root / 'configs/studies/digits.py')
