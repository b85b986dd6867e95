"""Bad inputs: a part of the campaign of benchmarks/bad_inputs, and the mistakes that it has
found."""

import importlib
import sys
import time
from pathlib import Path

import pytest
import torch

from ssl_zoo.errors import ConfigError

MODULES = ('campaign', 'commands', 'files', 'hostile_files', 'inputs', 'random_inputs')
SLOW = ('train_all', 'study')  # each input starts processes, or times steps


@pytest.fixture(scope='module')
def bad_inputs(root):
    """Function: a module of benchmarks/bad_inputs by its name."""
    folder = str(root / 'benchmarks' / 'bad_inputs')
    sys.path.insert(0, folder)
    yield importlib.import_module
    sys.path.remove(folder)
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.fixture(scope='module')
def campaign(bad_inputs, tmp_path_factory):
    home = tmp_path_factory.mktemp('campaign') / 'home'
    home.mkdir()
    return bad_inputs('campaign').Campaign(home)


@pytest.mark.long
def test_a_part_of_the_table_is_handled(bad_inputs, campaign):
    quick = [tool for tool in bad_inputs('commands').tools() if tool not in SLOW]
    campaign.run(quick, slice(3, None, 16))
    assert not campaign.result.failures, campaign.result.summary()
    assert campaign.result.tried.total() > 90


@pytest.mark.long
@pytest.mark.parametrize(
    ('tool', 'line'),
    [
        ('train', '{home}/hostile.yaml --work-dir work'),
        ('study', '{home}/study_yaml.py --out work'),
        ('show_views', '{home}/base_yaml.py --out views.png'),
        ('show_views', '{good} --out x.png --cfg-options data.train.root={home}/images/postscript'),
        ('show_views', '+ {good} --out x.png --cfg-options data.train.root={home}/{bytes}'),
        ('show_views', '{good} --out {bytes}.png'),
        ('make_shards', "\"{{'type': 'TarShards', 'shards': '{home}/{product}.tar'}}\" work"),
        ('knn', '{home}/planted_overlay.pth --work-dir work --random-weights'),
        ('knn', '{home}/huge_tensor.pth --work-dir work'),
        ('leaderboard', '{home}/run --out @odd/fifo'),
        ('plot', '{home}/run --out @odd/link.png'),
        ('plot', '? {home}/log_fifo --out plot.png'),
        ('report', '{home}/run --no-images --out @odd/fifo'),
        ('report', '{home}/run --out page.html --cfg-options epochs=2'),
        ('report', '? {home}/log_fifo --out page.html'),
        ('report', '? {home}/torn_run --out page.html'),
    ],
)
def test_hostile_files_and_places_are_handled(campaign, tool, line):
    before = len(campaign.result.failures)
    campaign.attempt(tool, line)
    assert len(campaign.result.failures) == before, campaign.result.failures[before:]


@pytest.mark.long
def test_random_inputs_give_a_result_or_a_sentence(bad_inputs, campaign):
    pytest.importorskip('hypothesis')
    result = bad_inputs('campaign').Result()
    bad_inputs('random_inputs').try_random_inputs(40, campaign.home, campaign.names, result)
    assert not result.failures, result.summary()
    assert result.tried.total() > 300


def test_the_campaign_sees_what_is_not_handled(bad_inputs, campaign, monkeypatch):
    """The campaign reports each kind of fault, and counts it."""
    config = campaign.home / 'config.txt'
    original = config.read_text()

    def raises():
        raise KeyError('a')

    def executes():
        campaign.marker.write_text('')
        return 2

    def overwrites():
        config.write_text('x')
        return 2

    def plants():
        (campaign.home.parent / 'planted').mkdir()
        return 2

    def writes():
        (campaign.home / 'written').touch()
        return 2

    def replaces():
        Path('odd/link').unlink()
        Path('odd/link').write_text('notes of the user\n')
        return 2

    def colours():
        print('error: \x1b[2J', file=sys.stderr)
        return 2

    def hangs():
        time.sleep(60)

    faults = dict(
        raises=raises,
        silent=lambda: 2,
        succeeds=lambda: 0,
        executes=executes,
        overwrites=overwrites,
        plants=plants,
        writes=writes,
        replaces=replaces,
        colours=colours,
        hangs=hangs,
    )
    judge = campaign.judge

    def judge_silence_of_others(mark, outcome):
        silent_ones = ('executes', 'overwrites', 'plants', 'writes', 'replaces')
        return None if current in silent_ones else judge(mark, outcome)

    monkeypatch.setattr(campaign, 'main', lambda tool: lambda argv: faults[tool]())
    monkeypatch.setattr(campaign, 'result', bad_inputs('campaign').Result())
    monkeypatch.setattr(campaign, 'judge', judge_silence_of_others)
    monkeypatch.setattr(bad_inputs('campaign'), 'SECONDS', 1)
    for current in faults:
        campaign.attempt(current, 'x @odd')
        config.write_text(original)
    reported = [failure.fault for failure in campaign.result.failures]
    assert reported.pop(7).endswith('/odd/link has changed')
    assert reported == [
        'an exception reaches the user',
        'exit code 2, but stderr has no sentence',
        'exit code 0',
        'code in a file was executed',
        f'{config} has changed',
        'planted was written outside the output folder',
        f'{campaign.home}/written was written outside the output folder',
        "the control character '\\x1b' reaches the terminal",
        'not done after 1 s',
    ]
    kinds = campaign.result.kinds()
    assert kinds == dict(tracebacks=1, hangs=1, files=4, code=1, others=3)


# --- Mistakes that it has found, each tested where it is caught


@pytest.mark.parametrize(
    ('env', 'sentence'),
    [
        (dict(WORLD_SIZE='²'), 'WORLD_SIZE=²'),
        (
            dict(WORLD_SIZE='2', RANK='2', MASTER_ADDR='a', MASTER_PORT='9'),
            'RANK must be from 0 to 1',
        ),
        (dict(WORLD_SIZE='2', RANK='', MASTER_ADDR='a', MASTER_PORT='9'), 'without RANK'),
        (
            dict(WORLD_SIZE='2', RANK='0', MASTER_ADDR='a', MASTER_PORT='99999'),
            'MASTER_PORT must be from 1 to 65535',
        ),
        (
            dict(WORLD_SIZE='0', RANK='0', MASTER_ADDR='a', MASTER_PORT='9'),
            'WORLD_SIZE must be from 1',
        ),
        (
            dict(SLURM_STEP_NUM_TASKS='2', SLURM_STEP_NODELIST=',,', SLURM_PROCID='0'),
            'names no machine',
        ),
        (dict(SLURM_STEP_NUM_TASKS='2', SLURM_PROCID='a'), 'RANK=a'),
    ],
)
def test_an_environment_that_would_hang_or_raise_is_told(monkeypatch, env, sentence):
    from ssl_zoo.distributed import process_group

    monkeypatch.setattr(process_group.os, 'environ', dict(env))
    with pytest.raises(ConfigError, match=sentence):
        process_group.rank_info()


@pytest.mark.parametrize(
    'text', ['import sys; sys.exit(0)', 'raise GeneratorExit', 'raise ValueError']
)
def test_a_config_or_import_that_ends_python_is_told(tmp_path, text):
    from ssl_zoo.config.loading import import_file, load_config

    (tmp_path / 'config.py').write_text(text)
    for read in (load_config, import_file):
        with pytest.raises(ConfigError, match='cannot be'):
            read(str(tmp_path / 'config.py'))


@pytest.mark.parametrize(
    ('changes', 'sentence'),
    [
        (dict(epochs=10**400), 'epochs is a whole number beyond'),
        (dict(base_lr=1e300), 'small enough to train with'),
        (dict(parallel=dict(timeout=1e300)), 'at most 10 million'),
        (dict(views=[dict(size=10**9)] * 2), 'positive number of pixels, at most 2048'),
    ],
)
def test_numbers_that_only_fail_later_are_told(tiny, changes, sentence):
    with pytest.raises(ConfigError, match=sentence):
        tiny(**changes)


@pytest.mark.parametrize('size', [0, 10**11])
@pytest.mark.parametrize('key', ['eval_size', 'eval_resize'])
def test_evaluation_sizes_are_checked(tiny, key, size):
    with pytest.raises(ConfigError, match=f'data.{key}={size}'):
        tiny(data=dict(train=dict(type='Digits'), **{key: size}))


@pytest.mark.parametrize('value', ['{[]: 1}', '(' * 500 + ')' * 500, '[' * 5000])
def test_an_option_that_python_cannot_evaluate_is_a_string(value):
    from ssl_zoo.config.options import apply_option

    cfg = {}
    apply_option(cfg, f'epochs={value}')
    assert 'epochs' in cfg


@pytest.mark.parametrize(
    'arguments', [dict(momentum='a'), dict(momentum=-1), dict(trust_coefficient=0)]
)
def test_lars_checks_its_arguments(arguments):
    from ssl_zoo.optim import LARS

    with pytest.raises(ConfigError, match=next(iter(arguments))):
        LARS([torch.nn.Parameter(torch.zeros(1))], lr=1, **arguments)


def test_a_checkpoint_without_its_parts_is_told(tmp_path):
    from ssl_zoo.checkpoint import FORMAT, add_digest, read_checkpoint

    (tmp_path / 'a.pth').write_bytes(b'')
    with pytest.raises(ConfigError, match='not a readable checkpoint'):
        read_checkpoint(tmp_path / 'a.pth')
    for content in (
        dict(),
        dict(config=5, step=1, method={}),
        dict(config={}, step='a', method={}),
        dict(config={}, step=1),
    ):
        torch.save(add_digest(dict(content, format=FORMAT)), tmp_path / 'a.pth')
        with pytest.raises(ConfigError, match='not a whole checkpoint'):
            read_checkpoint(tmp_path / 'a.pth')


def test_labels_are_written_in_ascii_digits():
    from ssl_zoo.data.label_lists import draw_labels
    from ssl_zoo.data.sources.arrays import Digits

    for labels in ('٣-per-class', '٣%', '9' * 30 + '-per-class'):
        with pytest.raises(ConfigError):
            draw_labels(Digits('val'), labels, 0)


def test_what_an_evaluation_kept_and_cannot_be_read_is_told(tmp_path):
    from ssl_zoo.evaluation.protocols.finetune import _read_scores

    for text in ('words', '{"a": 3}', '[[1, 2], [3, 4]]', '[[null, 1]]'):
        (tmp_path / 'scores.json').write_text(text)
        with pytest.raises(ConfigError, match=f'remove {tmp_path} to start again'):
            _read_scores(tmp_path / 'scores.json', 1)


def test_limit_is_a_number_and_an_empty_network_name_is_not_the_default(tiny):
    from ssl_zoo.build import build_method
    from ssl_zoo.data.sources import build_source

    with pytest.raises(ConfigError, match='limit=True'):
        build_source(dict(type='Digits', limit=True))
    with pytest.raises(ConfigError, match="no '' network"):
        build_method(tiny()).encoder('')


@pytest.mark.parametrize(
    'line',
    [
        '{good} --out {good}',
        '{good} --out {long}',
        '{good} --out work --seeds 0 0',
        '{home}/_base_/x.py --out work',
        '{home}/none.py --out @all_table_folder',
        '{good} --out @all_console_folder',
        '{good} --out @all_words --cfg-options base_lr=nan',
    ],
)
def test_train_all_tells_of_folders_and_rubbish(campaign, line):
    before = len(campaign.result.failures)
    campaign.attempt('train_all', line)
    assert len(campaign.result.failures) == before, campaign.result.failures[before:]
