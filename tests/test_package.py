"""The package as it is installed."""

import subprocess
import sys


def test_the_methods_folder_is_installed_as_ssl_zoo_methods(root, tmp_path):
    subprocess.run(
        [
            sys.executable,
            'setup.py',
            '-q',
            'build',
            '--build-base',
            str(tmp_path / 'b'),
            '--build-lib',
            str(tmp_path / 'lib'),
            'egg_info',
            '--egg-base',
            str(tmp_path),
        ],
        cwd=root,
        check=True,
        capture_output=True,
    )
    built = {p.relative_to(tmp_path / 'lib').as_posix() for p in (tmp_path / 'lib').rglob('*.py')}
    assert {
        'ssl_zoo/methods/__init__.py',
        'ssl_zoo/methods/byol.py',
        'ssl_zoo/engine/runner.py',
    } <= built
    assert not any(file.startswith(('tests', 'configs', 'tools', 'methods')) for file in built)
    code = 'import ssl_zoo; print(ssl_zoo.METHODS.names(), ssl_zoo.__file__)'
    out = subprocess.run(
        [sys.executable, '-c', code],
        cwd=tmp_path / 'lib',
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert 'BYOL' in out and str(tmp_path / 'lib') in out


def test_import_and_help_are_quick_to_load(root):
    """No heavy library before there is something to do."""
    code = (
        'import sys, runpy; import ssl_zoo; sys.argv = ["train.py", "--help"]\n'
        'try: runpy.run_path("tools/train.py", run_name="__main__")\n'
        'except SystemExit: pass\n'
        'print([m for m in ("torch", "timm", "mmengine", "faiss", "sklearn") if m in sys.modules])'
    )
    out = subprocess.run(
        [sys.executable, '-c', code], cwd=root, check=True, capture_output=True, text=True
    ).stdout
    assert out.strip().endswith('[]') and '--cfg-options' in out


def test_methods_import_the_framework_and_not_the_other_way_round(root):
    for file in (root / 'ssl_zoo').rglob('*.py'):
        assert 'methods' not in [
            word
            for line in file.read_text().splitlines()
            if line.lstrip().startswith(('import ', 'from '))
            for word in line.replace('.', ' ').split()
        ], file
