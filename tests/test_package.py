"""The package as it is built, installed and imported."""

import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

import ssl_zoo

SOURCES = ('ssl_zoo', 'methods', 'configs')
BUILD_FILES = ('pyproject.toml', 'setup.py', 'README.md', 'LICENSE')
HEAVY_LIBRARIES = ('torch', 'timm', 'mmengine', 'faiss', 'sklearn')
SHORT_RUN = [
    'method.backbone.width=0.125',
    'method.hidden_dim=32',
    'method.proj_dim=16',
    'data.train.split=val',
    'data.val=40',
    'data.test=None',
    'batch_size=20',
    'epochs=1',
    'warmup_epochs=0.2',
    'workers=0',
]


def run(*command, cwd: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [str(part) for part in command], cwd=cwd, check=True, capture_output=True, text=True
    )


@pytest.fixture(scope='module')
def wheel(root, tmp_path_factory) -> Path:
    """The wheel, built from a copy of the clone, in which a build leaves nothing behind."""
    folder = tmp_path_factory.mktemp('build')
    for name in SOURCES:
        shutil.copytree(root / name, folder / name, ignore=shutil.ignore_patterns('__pycache__'))
    for name in BUILD_FILES:
        shutil.copy(root / name, folder / name)
    options = ('--no-deps', '--no-build-isolation', '--no-index')
    run(sys.executable, '-m', 'pip', 'wheel', '-q', *options, '-w', 'dist', '.', cwd=folder)
    [path] = (folder / 'dist').glob('*.whl')
    return path


@pytest.fixture(scope='module')
def installed(wheel, tmp_path_factory) -> Path:
    """The bin folder of a new environment that has the wheel, and this environment's libraries."""
    folder = tmp_path_factory.mktemp('environment')
    venv.create(folder, symlinks=True)
    python = folder / 'bin/python'
    base = dict(base=str(folder), platbase=str(folder))
    packages = Path(sysconfig.get_path('purelib', scheme='venv', vars=base))
    (packages / 'dependencies.pth').write_text(sysconfig.get_path('purelib') + '\n')
    pip = (sys.executable, '-m', 'pip', '--python', python)
    run(*pip, 'install', '-q', '--no-deps', '--no-index', wheel, cwd=folder)
    return folder / 'bin'


@pytest.mark.long
def test_the_wheel_holds_methods_and_configs_inside_the_package(wheel, root):
    with zipfile.ZipFile(wheel) as archive:
        files = {name for name in archive.namelist() if '.dist-info/' not in name}
    assert {'ssl_zoo/py.typed', 'ssl_zoo/engine/trainer.py', 'ssl_zoo/cli/main.py'} <= files
    for folder in ('methods', 'configs'):
        sources = {path.relative_to(root).as_posix() for path in (root / folder).rglob('*.py')}
        assert {f'ssl_zoo/{path}' for path in sources} <= files
    assert all(name.startswith('ssl_zoo/') for name in files)


@pytest.mark.long
def test_the_wheel_trains_a_shipped_config_outside_the_clone(installed, tmp_path, monkeypatch):
    monkeypatch.delenv('PYTHONPATH', raising=False)
    where = run(installed / 'python', '-c', 'import ssl_zoo; print(ssl_zoo.__file__)', cwd=tmp_path)
    assert Path(where.stdout).is_relative_to(installed.parent)
    command = (installed / 'ssl-zoo', 'train', 'byol/digits', '--cfg-options', *SHORT_RUN)
    trained = run(*command, cwd=tmp_path)
    assert 'step 7/7' in trained.stdout
    [checkpoint] = tmp_path.glob('work_dirs/byol_digits/*/checkpoints/*.pth')
    assert checkpoint.name == 'step_00000007.pth'


def test_the_version_is_stated_once(root, installed, tmp_path):
    shown = run(installed / 'ssl-zoo', '--version', cwd=tmp_path)
    assert shown.stdout == f'ssl-zoo {ssl_zoo.__version__}\n'
    assert ssl_zoo.__version__ not in (root / 'pyproject.toml').read_text().split('[tool.')[0]
    cited = re.search(r'^version: (\S+)$', (root / 'CITATION.cff').read_text(), re.M)
    assert cited[1] == ssl_zoo.__version__


@pytest.mark.parametrize(
    ('script', 'arguments', 'expected'),
    [
        ('tools/train.py', ['--help'], '--cfg-options'),
        ('ssl_zoo/__main__.py', ['--help'], 'extract-features'),
        ('ssl_zoo/__main__.py', ['train', '--help'], '--cfg-options'),
        ('ssl_zoo/__main__.py', ['knn', '--help'], '--cfg-options'),
    ],
)
def test_help_imports_no_heavy_library(script, arguments, expected, root):
    code = (
        f'import sys, runpy; import ssl_zoo; sys.argv = {[script, *arguments]}\n'
        f'try: runpy.run_path({script!r}, run_name="__main__")\n'
        f'except SystemExit: pass\n'
        f'print([name for name in {HEAVY_LIBRARIES} if name in sys.modules])'
    )
    shown = run(sys.executable, '-c', code, cwd=root)
    assert shown.stdout.strip().endswith('[]') and expected in shown.stdout


def test_methods_import_the_framework_and_not_the_other_way_round(root):
    for file in (root / 'ssl_zoo').rglob('*.py'):
        assert 'methods' not in [
            word
            for line in file.read_text().splitlines()
            if line.lstrip().startswith(('import ', 'from '))
            for word in line.replace('.', ' ').split()
        ], file
