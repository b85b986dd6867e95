"""tools/new_method.py and docs/add_a_method.md, as a new user follows them."""

import re

import pytest


@pytest.mark.long
def test_what_it_writes_outside_the_repository_works_as_it_is(run_tool, root, tmp_path):
    made = run_tool(root / 'tools/new_method.py', 'my_method', '--out', tmp_path / 'mine')
    assert made.returncode == 0, made.stderr
    assert sorted(path.name for path in (tmp_path / 'mine').iterdir()) == [
        'my_method.py',
        'my_method_digits.py',
        'test_my_method.py',
    ]
    tested = run_tool('-m', 'pytest', '-q', tmp_path / 'mine/test_my_method.py', cwd=tmp_path)
    assert tested.returncode == 0 and '3 passed' in tested.stdout, tested.stdout
    again = run_tool(root / 'tools/new_method.py', 'my_method', '--out', tmp_path / 'mine')
    assert (
        again.returncode == 2
        and 'exists already, and nothing is overwritten' in again.stderr
        and 'Traceback' not in again.stderr
    )


@pytest.mark.long
def test_its_test_fails_when_the_loss_is_wrong(run_tool, root, tmp_path):
    run_tool(root / 'tools/new_method.py', 'my_method', '--out', tmp_path)
    path = tmp_path / 'my_method.py'
    path.write_text(path.read_text().replace('return pull + keep', 'return pull - keep'))
    tested = run_tool(
        '-m', 'pytest', '-q', '-k', 'formula', tmp_path / 'test_my_method.py', cwd=tmp_path
    )
    assert tested.returncode == 1 and '1 failed' in tested.stdout


def test_inside_the_repository_the_files_go_where_the_zoo_finds_them(root, monkeypatch):
    import importlib

    tool = importlib.import_module('ssl_zoo.cli.new_method')
    texts = tool.files('my_method', None)
    assert [path.relative_to(root).as_posix() for path in texts] == [
        'methods/my_method.py',
        'configs/my_method/digits.py',
        'tests/methods/test_my_method.py',
    ]
    _, config, test = texts.values()
    assert "_base_ = '../_base_/digits.py'" in config and 'imports' not in config
    assert "parents[2] / 'configs/my_method/digits.py'" in test


@pytest.mark.parametrize(
    ('name', 'sentence'),
    [
        ('my-method', 'use small letters, digits and single _'),
        ('class', 'use small letters'),
        ('Mine', 'use small letters'),
        ('../evil', 'use small letters'),
        ('simclr', "the zoo already has a method 'SimCLR'"),
        ('byol', "already has a method 'BYOL'"),
    ],
)
def test_names_that_cannot_be(name, sentence, run_tool, root, tmp_path):
    done = run_tool(root / 'tools/new_method.py', name, '--out', tmp_path / 'mine')
    assert done.returncode == 2 and sentence in done.stderr and 'Traceback' not in done.stderr
    assert not (tmp_path / 'mine').exists()


@pytest.mark.long
def test_the_page_works_block_by_block(run_tool, root, tmp_path):
    page = (root / 'docs/add_a_method.md').read_text()
    blocks = re.findall(r'```python\n# (\w+\.py)\n(.*?)```', page, re.S)
    assert [name for name, _ in blocks] == ['nn_byol.py', 'nn_byol_digits.py', 'test_nn_byol.py']
    [begin] = re.findall(r'^python (tools/new_method.py nn_byol --out (\w+))$', page, re.M)
    command, folder = begin
    made = run_tool(root / command.split()[0], *command.split()[1:], cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    for name, text in blocks:
        assert (tmp_path / folder / name).exists()  # the page replaces what the tool wrote
        (tmp_path / folder / name).write_text(text)
    [test] = re.findall(r'^python (-m pytest -q my_methods/\S+)$', page, re.M)
    tested = run_tool(*test.split(), cwd=tmp_path)
    assert tested.returncode == 0 and '2 passed' in tested.stdout, tested.stdout
    [train] = re.findall(r'^python (tools/train.py my_methods/\S+)$', page, re.M)
    tool, config = train.split()
    done = run_tool(
        root / tool,
        config,
        '--cfg-options',
        'method.backbone.width=0.125',
        'method.hidden_dim=32',
        'method.proj_dim=16',
        'data.train.split=val',
        'data.val=40',
        'data.test=None',
        'views.0.size=20',
        'views.1.size=20',
        'batch_size=20',
        'epochs=2',
        'warmup_epochs=0',
        'workers=0',
        cwd=tmp_path,
    )
    assert done.returncode == 0 and 'step 14/14' in done.stdout, done.stderr
    code = next(text for name, text in blocks if name == 'nn_byol.py')
    lines = [line for line in code.split('@METHODS')[1].splitlines() if line.strip()]
    assert len(lines) <= 45  # "about 40 lines"
