"""The README and the pages agree with the code, and their examples run."""

import importlib.util
import json
import re
import sys

import numpy as np
import pytest

from ssl_zoo.checkpoint import checkpoints_in, read_checkpoint
from ssl_zoo.config.loading import import_file, load_config
from ssl_zoo.engine.dry_run import dry_run
from ssl_zoo.engine.trainer import build_trainer
from ssl_zoo.evaluation.recipes import LINEAR
from ssl_zoo.registry import HOOKS, METHODS, OPTIMIZERS, SOURCES

LINK = re.compile(r'\]\(([^)\s]+)\)')


@pytest.fixture(scope='module')
def generate(root):
    """The hook that makes pages and tables; it needs mkdocs only when mkdocs calls it."""
    spec = importlib.util.spec_from_file_location('generate', root / 'docs/_hooks/generate.py')
    module = importlib.util.module_from_spec(spec)
    sys.modules['generate'] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules['generate']


def python_blocks(path):
    """File name -> text of the page's blocks that begin with a comment that names a file."""
    text = path.read_text()
    return dict(re.findall(r'```python\n# (?:[\w/]+/)?(\w+\.py)\n(.*?)```', text, re.DOTALL))


def zoo_files(root):
    """Paths of the method files and of the configs, relative to the repository."""
    methods = [path for path in root.glob('methods/*.py') if path.stem != '__init__']
    configs = [
        path
        for path in root.glob('configs/*/*.py')
        if path.parent.name not in ('_base_', 'studies')
    ]
    return [path.relative_to(root).as_posix() for path in (*methods, *configs)]


def test_the_readme_is_short_and_holds_the_two_commands(root):
    lines = (root / 'README.md').read_text().splitlines()
    assert len(lines) <= 150
    assert sum(line.startswith('python3 -m venv') for line in lines) == 2


def test_the_readme_lists_every_method_and_config(root):
    text = (root / 'README.md').read_text()
    assert [path for path in zoo_files(root) if f']({path})' not in text] == []


def test_the_readme_repeats_measured_figures(root):
    readme = (root / 'README.md').read_text()
    [section] = re.findall(r'^## Results$(.*?)^## ', readme, re.MULTILINE | re.DOTALL)
    figures = set(re.findall(r'\d+\.\d\d %(?:\*\*)?(?: \(\d+\.\d\d\))?', section))
    results = (root / 'docs/results.md').read_text()
    assert len(figures) == 8
    assert [figure for figure in figures if figure not in results] == []


@pytest.mark.long
def test_the_python_of_the_readme_runs(run_tool, root, tmp_path):
    [code] = re.findall(r'```python\n(.*?)```', (root / 'README.md').read_text(), re.DOTALL)
    statements = [line for line in code.splitlines() if line and not line.startswith('from')]
    assert len(statements) <= 10
    script = tmp_path / 'script.py'
    script.write_text(code.replace("'configs/", f"'{root}/configs/"))
    done = run_tool(script, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == '(360, 256)'


def test_the_quick_start_shows_the_same_python(root):
    [code] = re.findall(r'```python\n(.*?)```', (root / 'README.md').read_text(), re.DOTALL)
    assert code in (root / 'docs/quick_start.md').read_text()


def test_links_between_files_lead_to_files(root):
    pages = [root / 'README.md', *root.glob('docs/*.md'), root / 'configs/byol/README.md']
    generated = {'study_files.md', 'byol_ablations.md', 'benchmarks.md', 'gpu_pieces.md'}
    missing = []
    for page in pages:
        for target in LINK.findall(page.read_text()):
            path = target.partition('#')[0]
            if not path or '://' in path or path in generated or path.startswith('api/'):
                continue
            if not (page.parent / path).exists() and not path.startswith('methods/'):
                missing.append(f'{page.name}: {target}')
    assert missing == []


# Generated pages and tables


def test_every_method_has_a_page_with_its_configs_and_measured_rows(root, generate):
    entries = generate.zoo()
    pages = generate.generated_pages()
    shown = {f'methods/{entry.stem}.py' for entry in entries}
    shown |= {path for entry in entries for path in entry.configs}
    assert shown == set(zoo_files(root))
    for entry in entries:
        page = pages[f'methods/{entry.stem}.md']
        assert entry.papers and all(path in page for path in entry.configs)
    measured = [row['config'] for row in generate.DIGITS['rows']]
    assert sorted(measured) == sorted(
        path.relative_to(root).as_posix()
        for path in root.glob('configs/*/digits*.py')
        if path.parent.name not in ('_base_', 'studies')
    )


def test_the_api_reference_shows_modules_that_exist(root, generate):
    modules = [module for page in generate.API for module in generate.api_modules(page)]
    assert len(modules) == len(set(modules)) > 40
    assert [name for name in modules if not (root / f'{name.replace(".", "/")}.py').exists()] == []


def test_every_marker_of_a_page_names_a_table(root, generate):
    markers = [
        name
        for path in root.glob('docs/**/*.md')
        for name in generate.MARKER.findall(path.read_text())
    ]
    assert set(markers) == set(generate.TABLES)
    for name in markers:
        assert generate.TABLES[name]().strip(), name


def test_the_digits_table_repeats_its_data(root, generate):
    rows = json.loads((root / 'docs/results/digits.json').read_text())['rows']
    assert len(rows) == 16 and all(METHODS.find(row['method']) for row in rows)
    line = (
        '| [byol/digits.py](../configs/byol/digits.py) | BYOL | 97.59 % (0.16) | 91.30 % (0.70) | '
        '83.30 % (0.87) | 116 | 0.80 | 56 | 3 |'
    )
    assert line in generate.digits_table().replace('\u00a0', ' ').splitlines()


PRESETS = {
    'byol': '| `byol` | SGD, Nesterov | 80 | 1024 | 0.4, 0.3, 0.2, 0.1, 0.05 x b/256 | 0 | '
    'cosine, by steps | haiku |',
    'moco': '| `moco` | SGD | 100 | 256 | 30 | 0 | '
    'x 0.1 at 60%, 80%, by epochs, bilinear | normal |',
    'simsiam': '| `simsiam` | LARC | 90 | 4096 | 0.02, 0.1 x b/256 | 0 | '
    'cosine, by epochs, bilinear | normal |',
    'dino': '| `dino` | SGD | 100 | 1024 | 0.001 x b/256 | 0 | '
    'cosine, by epochs, bilinear in training | normal |',
    'lightly': '| `lightly` | SGD | 90 | 256 | 0.1 x b/256 | 0 | '
    'cosine, by steps, to 0.001, bilinear | torch |',
    'dinov2': '| `dinov2` | SGD | 10 | 1024 | 13 from 1e-05 to 0.1 x b/256 | 0 | '
    'cosine, by steps | normal |',
}


def test_the_table_of_presets(generate):
    lines = generate.presets_table().splitlines()[2:]
    assert [line.split('`')[1] for line in lines] == list(LINEAR)
    for line, (name, recipe) in zip(lines, LINEAR.items(), strict=True):
        assert line.endswith(f' | {recipe.source} |')
        assert line.startswith(PRESETS.get(name, f'| `{name}` |')), line


def test_the_tables_of_keys_explain_every_key(generate):
    for name in generate.TABLES:
        if name.startswith('keys'):
            cells = [line.split(' | ') for line in generate.TABLES[name]().splitlines()[2:]]
            assert [row[0] for row in cells if len(row[-1].strip(' |')) < 5] == [], name


# Pages with examples


def test_the_page_on_reliability_has_every_method_and_names_tests_that_exist(root):
    text = (root / 'docs' / 'reliability.md').read_text()
    for name in METHODS.names():
        if METHODS.find(name).__module__.startswith('ssl_zoo.methods'):
            assert f'\n| {name} |' in text, name
    named = set(re.findall(r'(?:tests|benchmarks)/[\w/]+\.py', text))
    assert len(named) > 8 and not [path for path in named if not (root / path).exists()]


def test_the_example_of_a_study_loads(root, tmp_path):
    from ssl_zoo.studies.load import load_study

    text = python_blocks(root / 'docs/studies.md')['photographs.py']
    path = tmp_path / 'photographs.py'
    path.write_text(text.replace("'../", f"'{root}/configs/"))
    study = load_study(path)
    assert [arm.id for arm in study.arms()] == ['byol-100', 'byol-300', 'simclr-100', 'simclr-300']
    assert study.arms()[1].settings().epochs == 300 and len(study.evaluate.metrics()) == 4


@pytest.mark.parametrize(
    ('file', 'options'),
    [
        ('my_backbone.py', ["method.backbone={'type': 'ConvNet', 'channels': 32}"]),
        (
            'my_source.py',
            [
                "data.train={'type': 'NumpyFile', 'path': 'images.npy'}",
                'data.val=None',
                'data.test=None',
            ],
        ),
        ('my_optimizer.py', ["optimizer={'type': 'RMSprop', 'momentum': 0.9}", 'base_lr=0.01']),
        ('my_hook.py', ["hooks=[{'type': 'WeightNorm', 'every': 20}]"]),
    ],
)
def test_the_examples_of_extending_run(file, options, root, tmp_path, monkeypatch, capsys):
    (tmp_path / file).write_text(python_blocks(root / 'docs/extending.md')[file])
    np.save(tmp_path / 'images.npy', np.zeros((64, 24, 24, 3), np.uint8))
    monkeypatch.chdir(tmp_path)
    options = [f"imports=['{tmp_path / file}']", 'batch_size=8', *options]
    dry_run(load_config(root / 'configs/byol/digits.py', options))
    assert 'images/s' in capsys.readouterr().out


def test_the_hook_of_extending_logs_and_counts(root, tmp_path, tiny, monkeypatch):
    monkeypatch.setattr(HOOKS, '_module_dict', dict(HOOKS.module_dict))
    HOOKS.module_dict.pop('WeightNorm', None)  # of the test before
    (tmp_path / 'my_hook.py').write_text(python_blocks(root / 'docs/extending.md')['my_hook.py'])
    import_file(tmp_path / 'my_hook.py')
    hooks = [dict(type='WeightNorm', every=7)]
    runner = build_trainer(tiny(hooks=hooks, base_lr=1e-12), tmp_path / 'run')
    runner.fit()
    text = (tmp_path / 'run/train.log').read_text()
    norms = dict(re.findall(r'pass (\d+): norm of the weights ([\d.]+)', text))
    assert list(norms) == ['0', '7'] and float(norms['0']) > 0
    [path] = checkpoints_in(tmp_path / 'run')[:1]
    assert read_checkpoint(path)['hooks']['passes'] == 14


def test_the_registered_names_of_the_pages_exist(root):
    own_images = (root / 'docs/own_images.md').read_text()
    named = set(re.findall(r"type='(\w+)'", own_images))
    assert named and named <= set(SOURCES.names())
    assert {'LARS', 'SGD', 'Adam', 'AdamW'} <= set(OPTIMIZERS.names())
