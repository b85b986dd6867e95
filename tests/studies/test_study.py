"""A study file becomes arms, jobs and a plan; mistakes show before anything runs."""

import json
from pathlib import Path

import pytest

from ssl_zoo.errors import ConfigError
from ssl_zoo.studies.cost_estimate import print_plan
from ssl_zoo.studies.evaluation import Evaluation
from ssl_zoo.studies.json_files import write_json
from ssl_zoo.studies.load import load_study
from ssl_zoo.studies.plan import Jobs
from ssl_zoo.studies.scheduler import format_duration
from ssl_zoo.studies.study import slug

ROOT = Path(__file__).parents[2]
STUDIES = sorted((ROOT / 'configs' / 'studies').glob('*.py'))
TEXT = f"""
title = 'Two methods'
_simclr = {str(ROOT / 'configs/simclr/digits.py')!r}
methods = {{'BYOL': {str(ROOT / 'configs/byol/digits.py')!r},
           'SimCLR': dict(config=_simclr, options=['method.temperature=0.2'])}}
recipe = ['epochs=2', 'warmup_epochs=0', 'method.temperature=0.3'][:2]
axes = {{'batch': {{'64': [], '32': ['batch_size=32', 'base_lr=3']}}}}
seeds = [0, 1]
tune = dict(factors=[0.5, 2], options=['epochs=1'])
small = dict(seeds=[5], axes={{}})
"""


@pytest.fixture
def write(tmp_path):
    def file(text=TEXT, **more):
        path = tmp_path / 'my_study.py'
        path.write_text(text + ''.join(f'\n{key} = {value!r}' for key, value in more.items()))
        return path

    return file


@pytest.mark.parametrize('path', STUDIES, ids=lambda path: path.stem)
def test_every_study_loads_and_its_headers_command_names_it(path):
    for small in (False, True) if 'small = ' in path.read_text() else (False,):
        study = load_study(path, small)
        arms = study.arms()
        assert len(arms) >= 3 and len(study.seeds) >= 3 and study.question and study.caveats
        assert study.tune is not None and len(study.tune.factors) == 3
        settings = [arm.settings() for arm in arms]
        assert (
            len(
                {
                    (s.batch_size, s.epochs, s.method['backbone']['name'], s.data.mean, s.data.std)
                    for s in settings
                }
            )
            == 1
        )  # one recipe
    assert f'python tools/study.py configs/studies/{path.name}' in path.read_text()


def test_arms_are_methods_times_axes_and_options_come_in_order(write):
    study = load_study(write(), changes=['seed=9'])
    assert [(arm.method, arm.labels, arm.id) for arm in study.arms()] == [
        ('BYOL', {'batch': '64'}, 'byol-64'),
        ('BYOL', {'batch': '32'}, 'byol-32'),
        ('SimCLR', {'batch': '64'}, 'simclr-64'),
        ('SimCLR', {'batch': '32'}, 'simclr-32'),
    ]
    assert study.arms()[3].options == (
        'epochs=2',
        'warmup_epochs=0',
        'method.temperature=0.2',
        'batch_size=32',
        'base_lr=3',
        'seed=9',
    )
    assert study.reference == 'BYOL' and study.name == 'my_study'
    small = load_study(write(), small=True)
    assert (small.seeds, small.axes, small.name, len(small.arms())) == (
        (5,),
        {},
        'my_study_small',
        2,
    )
    assert load_study(write(), seeds=[3]).seeds == (3,)


def test_jobs_their_needs_and_the_choice(write, tmp_path):
    jobs = Jobs(load_study(write()), tmp_path / 'out')
    assert [len(jobs.trials), len(jobs.runs), len(jobs.baselines), len(jobs)] == [4, 8, 2, 14]
    trials = [job.folder for job in jobs.trials if job.arm.method == 'SimCLR']
    run = next(job for job in jobs.runs if job.arm.id == 'simclr-32')
    assert run.needs == tuple(trials) and jobs.baselines[1].needs == (
        tmp_path / 'out/runs/byol-64/seed_1',
    )
    jobs.prepare(jobs.trials[0])
    task = json.loads((jobs.trials[0].folder / 'job.json').read_text())
    assert (
        task['options'][-3:] == ['epochs=1', 'data.test=None', 'base_lr=4.0']
        and task['seed'] == 1000
        and 'seed=1000' in task['options']
    )
    with pytest.raises(
        ConfigError, match='2 of the 2 trials of SimCLR failed, and a choice needs all of them'
    ):
        jobs.prepare(run)
    for folder, value, accuracy in zip(trials, (4.0, 16.0), (80.0, 90.0), strict=True):
        record = dict(
            kind='trial',
            status='done',
            key='base_lr',
            factor=value / 8,
            value=value,
            val_knn=accuracy,
        )
        write_json(folder / 'record.json', record)
    jobs.prepare(run)
    task = json.loads((run.folder / 'job.json').read_text())
    assert task['lr'] == dict(key='base_lr', factor=2.0, value=6.0, variant='')  # twice its own 3
    assert task['options'][-2:] == ['seed=0', 'base_lr=6.0'] and not any(
        'data.test' in option for option in task['options']
    )
    write_json(
        trials[1] / 'record.json',
        dict(kind='trial', status='done', key='base_lr', factor=2.0, value=16.0, val_knn=None),
    )
    assert jobs.chosen_number('SimCLR')['factor'] == 0.5  # the other one diverged
    write_json(trials[0] / 'record.json', dict(kind='trial', status='failed', error='x'))
    with pytest.raises(
        ConfigError, match='1 of the 2 trials of SimCLR failed'
    ):  # it may do better next time: no choice before
        jobs.chosen_number('SimCLR')
    write_json(trials[0] / 'record.json', dict(kind='trial', status='done', val_knn=None))
    with pytest.raises(ConfigError, match='all 2 trials of SimCLR diverged'):
        jobs.chosen_number('SimCLR')


def test_every_variant_is_tried_with_every_factor_and_the_best_pair_is_used(write, tmp_path):
    config = str(ROOT / 'configs/byol/digits.py')
    decays = {'decay 0.8': ['method.base_ema=0.8'], 'decay 0.9': ['method.base_ema=0.9']}
    rates = {'lr 8': [], 'lr 2': ['base_lr=2']}
    methods = {
        'BYOL': dict(config=config, variants=decays),
        'B': dict(config=config, variants=rates),
    }
    study = load_study(write(methods=methods, axes={}))
    jobs = Jobs(study, tmp_path / 'out')
    trials = jobs.trials_of('BYOL')
    assert [(job.factor, job.variant) for job in trials] == [
        (factor, decay) for factor in (0.5, 2) for decay in decays
    ]
    assert trials[1].label == 'BYOL  decay 0.9  trial x 0.5'
    for job, accuracy in zip(trials, (70.0, 90.0, 80.0, 85.0), strict=True):
        jobs.prepare(job)
        task = json.loads((job.folder / 'job.json').read_text())
        assert decays[job.variant][0] in task['options']
        task['recorded'] = {key: task[key] for key in task['recorded']}
        write_json(
            job.folder / 'record.json', dict(task['recorded'], status='done', val_knn=accuracy)
        )
    assert jobs.chosen_number('BYOL') == dict(
        key='base_lr', factor=0.5, value=4.0, variant='decay 0.9'
    )
    run = next(job for job in jobs.runs if job.arm.method == 'BYOL')
    jobs.prepare(run)
    task = json.loads((run.folder / 'job.json').read_text())
    assert task['options'][-3:] == ['method.base_ema=0.9', 'seed=0', 'base_lr=4.0']
    last = jobs.trials_of('B')[-1]  # the factor multiplies the variant's own number
    jobs.prepare(last)
    assert json.loads((last.folder / 'job.json').read_text())['value'] == 4.0
    with pytest.raises(ConfigError, match='numbers of variants differ'):
        load_study(write(methods=dict(methods, C=config), axes={}))
    with pytest.raises(ConfigError, match='but tune, which chooses one of them'):
        load_study(write(methods=methods, axes={}, tune=None))


def test_a_folder_with_other_settings_is_refused(write, tmp_path):
    jobs = Jobs(load_study(write()), tmp_path / 'out')
    for job in jobs.trials:
        jobs.prepare(job)
    jobs.check_folders()
    Jobs(
        load_study(write(seeds=[0, 1, 2])), tmp_path / 'out'
    ).check_folders()  # more seeds: the same jobs and more
    with pytest.raises(
        ConfigError, match='other settings than the study has now; choose another --out'
    ):
        Jobs(load_study(write(tune=dict(factors=[1, 2]))), tmp_path / 'out').check_folders()


def test_a_config_that_changes_while_the_study_runs_is_noticed(write, tmp_path):
    config = tmp_path / 'own.py'
    text = (
        (ROOT / 'configs/byol/digits.py')
        .read_text()
        .replace("'../_base_", f"'{ROOT}/configs/_base_")
    )
    config.write_text(text)
    jobs = Jobs(load_study(write(methods={'BYOL': str(config)}, axes={})), tmp_path / 'out')
    jobs.prepare(jobs.trials[0])
    jobs.check_folders()
    config.write_text(text + '\nweight_decay = 1e-3\n')
    with pytest.raises(ConfigError, match='other settings than the study has now'):
        jobs.prepare(jobs.trials[0])
    with pytest.raises(ConfigError, match='has changed since the study was started'):
        jobs.prepare(jobs.trials[1])


def test_the_plan_says_what_and_how_long(write, tmp_path):
    lines = []
    jobs = Jobs(load_study(write()), tmp_path / 'out')
    expected = print_plan(jobs, 2, 1, lines.append).seconds
    text = '\n'.join(lines)
    assert (
        '2 methods x 2 batch x 2 seeds = 8 runs, 4 trials (base_lr x 0.5, 2 for each method, seed '
        '1000)' in text
    )
    assert (
        '0 of 14 done before' in text and 'SimCLR 32' in text and 'whole network fine-tuned' in text
    )
    assert set(expected) == {
        *(('run', arm) for arm in ('byol-64', 'byol-32', 'simclr-64', 'simclr-32')),
        ('trial', 'byol-64'),
        ('trial', 'simclr-64'),
    }
    assert expected['trial', 'byol-64'] == pytest.approx(
        expected['run', 'byol-64'] * 19 / 39
    )  # steps of 1 and of 2 epochs
    assert not (tmp_path / 'out').exists()  # a plan leaves nothing


@pytest.mark.parametrize(
    ('labels', 'sentence'),
    [
        ('1%', '1% of 160 images are 2, fewer than the 10 classes'),
        ('90-per-class', 'the smallest class has'),
    ],
)
def test_labels_that_cannot_be_drawn_are_refused_by_the_plan(write, tmp_path, labels, sentence):
    options = ['data.train.limit=200', 'data.val=40']
    study = load_study(write(evaluate=dict(labels=[labels])), changes=options)
    with pytest.raises(ConfigError, match=f'evaluate.labels: .*{sentence}'):
        print_plan(Jobs(study, tmp_path / 'out'), 1, 1, print_line=str)


def test_images_with_several_classes_are_refused_by_the_plan(write, tmp_path, image_folder):
    root = image_folder(classes=2)
    (root / 'list.txt').write_text('class_0/0.png\ta,b\nclass_0/1.png\ta\nclass_1/1.png\tb\n')
    cfg = dict(type='FileList', path=str(root / 'list.txt'), separator=',')
    study = load_study(write(), changes=[f'data.train={cfg}', 'data.val=1', f'data.test={cfg}'])
    with pytest.raises(ConfigError, match='data.train have several classes, and this evaluation'):
        print_plan(Jobs(study, tmp_path / 'out'), 1, 1, print_line=str)


@pytest.mark.parametrize(
    ('more', 'sentence'),
    [
        (dict(sedes=[1]), "sedes is not a config key: did you mean 'seeds'"),
        (dict(name='other'), 'name is not a key of a study'),
        (dict(methods={}), 'methods={}, but it must be a dict of name: config'),
        (dict(methods={'A': 'nowhere.py'}), 'there is no config at'),
        (
            dict(methods={'A': dict(config='x.py', optoins=[])}),
            "methods['A'].optoins is not a config key: did you mean 'options'",
        ),
        (dict(methods={'random weights': 'x.py'}), 'the name of the untrained network'),
        (dict(seeds=[]), 'seeds=(), but it must be'),
        (dict(seeds=[1, 1]), 'different whole numbers'),
        (dict(seeds=[4294967296]), 'below 2'),
        (dict(seeds=[1000]), 'a seed that chose the factor gives no independent measurement'),
        (
            dict(axes={'a': []}),
            "axes={'a': []}, but it must be a dict of axis: {label: ['key=value', ...]}",
        ),
        (
            dict(axes={'a': {'x y': [], 'x_y': ['batch_size=32']}}),
            'two rows would share the folder',
        ),
        (dict(axes={'a': {'x': ['epoch=3']}}), 'epoch is not a config key'),
        (dict(seeds=3), 'seeds=3 is of type int, but it must be'),
        (dict(tune=dict(factors=0.5)), 'tune.factors=0.5 is of type float, but it must be'),
        (dict(tune=dict(factors=[1, 2], key=5)), 'tune.key=5 is of type int, but it must be str'),
        (
            dict(tune=dict(factors=[1, 2], seed='a')),
            "tune.seed='a' is of type str, but it must be int",
        ),
        (
            dict(tune=dict(factors=[0.5, 2], key='batch_size')),
            'trial of BYOL: batch_size=32.0 is of type float',
        ),
        (
            dict(tune=dict(factors=[1, 2], options=['epoch=3'])),
            'trial of BYOL: epoch is not a config key',
        ),
        (dict(evaluate=None), 'evaluate=None, but it must be dict(...)'),
        (dict(evaluate=dict(strengths=[])), 'evaluate: strengths=()'),
        (dict(evaluate=dict(strengths=[-1.0])), 'a strength must be a finite number above 0'),
        (
            dict(evaluate=dict(k=[20.5])),
            'evaluate.k=(20.5,), but it must be one or more whole numbers',
        ),
        (
            dict(evaluate=dict(labels=['500%'])),
            "evaluate.labels=('500%',), but it must be a list of shares",
        ),
        (dict(tune=dict(factors=[1])), 'two or more different numbers above 0'),
        (
            dict(tune=dict(factors=[1, 2], key='method.speed')),
            "tune.key is 'method.speed', which the config of BYOL does not have",
        ),
        (
            dict(tune=dict(factors=[1, 2], key='method.type')),
            "its value in the config of BYOL is 'BYOL', not a number",
        ),
        (dict(reference='BOYL'), "reference is 'BOYL': did you mean 'BYOL'"),
        (dict(evaluate=dict(linear='byl')), "linear is 'byl': did you mean 'byol'"),
        (
            dict(evaluate=dict(labels=['few'])),
            "evaluate.labels=('few',), but it must be a list of shares such as '1%'",
        ),
        (dict(evaluate=dict(finetune=dict(speed=3))), 'evaluate: '),
        (dict(recipe=['data.test=None']), 'has no data.test; a study chooses on a hold-out'),
        (dict(_x=1, recipe='epochs=3'), "recipe='epochs=3' is of type str, but it must be"),
        (dict(recipe=[3]), 'a list of texts'),
    ],
)
def test_mistakes_are_answered_in_a_sentence(more, sentence, write):
    with pytest.raises(ConfigError) as error:
        load_study(write(**more))
    assert sentence in str(error.value) and '\n' not in str(error.value)


def test_files_that_are_no_studies(tmp_path):
    with pytest.raises(ConfigError, match='there is no study at'):
        load_study(tmp_path / 'none.py')
    path = tmp_path / 'a.py'
    path.write_text('1 / 0')
    with pytest.raises(ConfigError, match='cannot be read: ZeroDivisionError'):
        load_study(path)
    path.write_text("title = 'x'")
    with pytest.raises(ConfigError, match='lacks a.py: methods'):
        load_study(path)
    with pytest.raises(ConfigError, match='has no small version'):
        load_study(path, small=True)


def test_names_of_folders():
    assert slug('MoCo v2') == 'moco_v2' and slug('BYOL-64') == 'byol-64' and slug('0.99') == '0.99'
    assert slug('decay 1 (random target)') != slug('decay 1 random target') and '/' not in slug(
        '../../etc'
    )
    assert not slug('..').startswith('.')


def test_evaluation_recipes_for_all_labels_or_for_each():
    assert Evaluation(finetune=dict(epochs=[3])).finetune_recipe('1%').epochs == (3,)
    each = Evaluation(finetune={'1%': dict(epochs=[7])})
    assert each.finetune_recipe('1%').epochs == (7,) and each.finetune_recipe('10%').epochs == (
        30,
        50,
    )
    assert [m['key'] for m in Evaluation(linear=None, labels=()).metrics()] == ['knn']
    assert (
        format_duration(30) == '30 s'
        and format_duration(600) == '10 min'
        and format_duration(3 * 3600) == '3.0 h'
    )
