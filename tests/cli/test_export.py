"""tools/export.py as a user runs it: files, exit codes, sentences."""

import importlib
import os
import time

import pytest
import timm
import torch

from ssl_zoo.build import build_method
from ssl_zoo.checkpoint import FORMAT, add_digest
from ssl_zoo.config.loading import import_file
from ssl_zoo.config.settings import settings_from_dict

BACKBONE = dict(name='test_resnet')
METHOD = '''
"""A method of one's own, with a backbone that no library knows."""
from torch import nn
from ssl_zoo import METHODS, Method


@METHODS.register_module()
class Flat(Method):
    def __init__(self):
        super().__init__()
        self.backbone, self.embed_dim = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 4)), 4

    def loss(self, views, **batch):
        return dict(loss=self.backbone(views[0]).square().mean())
'''


def save(path, **method):
    settings = settings_from_dict(
        dict(
            method=method,
            data=dict(
                train=dict(type='Digits', split='val'),
                test=dict(type='Digits', split='test', limit=12),
            ),
            views=[dict(size=32)] * 2,
            optimizer=dict(type='SGD'),
            epochs=1,
            batch_size=20,
            base_lr=1.0,
            workers=0,
        )
    )
    built = build_method(settings)
    if hasattr(built, 'target'):
        torch.nn.init.normal_(built.target.network.backbone.layer1[0].conv1.weight)
    path.parent.mkdir(parents=True)
    torch.save(
        add_digest(
            dict(format=FORMAT, config=settings.to_builtin(), step=7, method=built.state_dict())
        ),
        path,
    )
    return path


@pytest.fixture
def checkpoint(tmp_path):
    return save(
        tmp_path / 'run' / 'checkpoints' / 'step_00000007.pth',
        type='BYOL',
        backbone=BACKBONE,
        hidden_dim=16,
        proj_dim=8,
    )


@pytest.fixture
def tool(root, tmp_path, monkeypatch, capsys):
    """Function: the tool's main in this process, in tmp_path; exit code, stdout, stderr."""
    module = importlib.import_module('ssl_zoo.cli.export')
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        code = module.main(list(map(str, arguments)))
        return code, *capsys.readouterr()

    return call


def test_as_a_user_runs_it(run_tool, checkpoint, root, tmp_path):
    done = run_tool(
        root / 'tools/export.py',
        'run/checkpoints/step_00000007.pth',
        '--format',
        'timm',
        '--out',
        'new/a.pth',
        cwd=tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, '')
    network = timm.create_model('test_resnet', num_classes=0)
    network.load_state_dict(torch.load(tmp_path / 'new' / 'a.pth', weights_only=True))
    lines = done.stdout.splitlines()
    assert lines[0].startswith('new/a.pth: 1.') and ' MiB, sha256 ' in lines[0]
    assert lines[1:3] == [
        '  BYOL, online backbone of step 7',
        '  read back by timm: ' + lines[2].split('timm: ')[1],
    ]
    assert 'largest difference 0 over 12 test images, where the largest feature is ' in lines[2]
    assert "    model = timm.create_model('test_resnet', num_classes=0)" in lines


def test_the_other_arguments_arrive(tool, checkpoint, tmp_path):
    code, out, err = tool(
        checkpoint,
        '--format',
        'safetensors',
        '--out',
        'a.safetensors',
        '--network',
        'target',
        '--images',
        5,
        '--cfg-options',
        'data.test.split=val',
    )
    assert (code, err) == (0, '') and 'target backbone' in out and 'over 5 test images' in out
    assert (
        'model card in README.md' in out
        and 'target backbone' in (tmp_path / 'README.md').read_text()
    )


@pytest.mark.long
def test_a_method_of_ones_own(tool, root, tmp_path):
    (tmp_path / 'flat.py').write_text(METHOD)
    import_file(str(tmp_path / 'flat.py'))
    path = save(tmp_path / 'flat' / 'checkpoints' / 'step_00000007.pth', type='Flat')
    code, out, err = tool(path, '--format', 'timm', '--out', 'a.pth', '--imports', 'flat.py')
    assert (code, out) == (2, '')
    assert (
        err == 'error: the config of this checkpoint has no method.backbone=dict(name=...), so the '
        'code that builds the network is unknown; '
        'use --format onnx, which holds the network itself\n'
    )
    code, out, err = tool(path, '--format', 'torchvision', '--out', 'a.pth')
    assert (
        code == 2
        and err
        == 'error: only ResNets and ViTs can be exported for torchvision, and this backbone is a '
        'Sequential; use --format onnx, which holds the network itself\n'
    )
    if all(map(importlib.util.find_spec, ('onnx', 'onnxscript', 'onnxruntime'))):
        code, out, err = tool(path, '--format', 'onnx', '--out', 'a.onnx')
        assert code == 0 and 'fixed: height and width, 32 px' in out
        code, out, err = tool(path, '--format', 'onnx', '--out', 'b', '--dynamic-size')
        assert (code, out) == (2, '') and err.count('\n') == 1
        assert 'this Sequential does not take 41 x 48 px' in err


@pytest.mark.parametrize(
    ('arguments', 'sentence'),
    [
        (['--format', 'torch'], "the format is 'torch': did you mean 'torchvision'?"),
        (['--network', 'a'], "BYOL has no 'a' network"),
        (['--format', 'torchvision'], 'torchvision has no'),
        (['--images', '0'], 'images=0, but it must be a number above 0'),
        (
            [
                '--cfg-options',
                'data.test.root=/none',
                'data.test.type=ImageFolder',
                'data.test.split=None',
            ],
            "'split'",
        ),
        (
            ['--cfg-options', "data.test={'type': 'ImageFolder', 'root': '/none'}"],
            'data.test is not on this machine',
        ),
        (['--cfg-options', 'method.hidden_dim=4'], 'would change what was trained'),
        (['--imports', '/none.py'], '/none.py'),
        (['--out', 'run'], 'but a file for timm ends in .pth or .pt'),
        (['--out', 'run/checkpoints/step_00000007.pth'], 'exists already'),
        (['--out', 'run/checkpoints/step_00000007.pth/a.pth'], 'could not write'),
    ],
)
def test_mistakes_end_with_one_sentence(tool, checkpoint, tmp_path, arguments, sentence):
    given = dict(zip(arguments[::2], [None] * 9, strict=False))
    defaults = [
        word
        for key, value in (('--format', 'timm'), ('--out', 'a.pth'))
        if key not in given
        for word in (key, value)
    ]
    code, out, err = tool(checkpoint, *defaults, *arguments)
    assert (
        (code, out) == (2, '')
        and err.startswith('error: ')
        and err.count('\n') == 1
        and sentence in err
    )
    assert os.listdir(tmp_path) == ['run'] and os.listdir(tmp_path / 'run' / 'checkpoints') == [
        'step_00000007.pth'
    ]


def test_a_file_that_is_no_checkpoint(tool, tmp_path):
    torch.save(dict(a=1), tmp_path / 'a.pth')
    err = tool(tmp_path / 'a.pth', '--format', 'timm', '--out', 'b.pth')[2]
    assert err.startswith(f'error: {tmp_path}/a.pth is not a checkpoint of ssl_zoo')


def test_help_is_there_at_once(run_tool):
    start = time.perf_counter()
    done = run_tool('-X', 'importtime', 'tools/export.py', '--help')
    assert (
        done.returncode == 0
        and '--format' in done.stdout
        and ' torch\n' not in done.stderr
        and time.perf_counter() - start < 5
    )
