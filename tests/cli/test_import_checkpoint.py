"""tools/import.py: from another library's file to a k-NN figure, what is printed, mistakes."""

import importlib
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet

from ssl_zoo.data.sources.folder import ImageFolder


@pytest.fixture
def call(root, capsys):
    """Function: run a tool in this process; its exit code, what it printed, its errors."""

    def run(name, *arguments):
        tool = importlib.import_module(f'ssl_zoo.cli.{name}')
        code = tool.main([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def theirs(tmp_path):
    """A file of SimSiam and the backbone in it: torchvision's ResNet of one block per stage."""
    network = ResNet(BasicBlock, [1, 1, 1, 1])
    for name, value in network.state_dict().items():
        if name.endswith(('running_mean', 'bn2.bias')):
            value.normal_(std=0.2)
    network.fc = nn.Sequential(nn.Linear(512, 16), nn.BatchNorm1d(16, affine=False))
    state = {f'module.encoder.{name}': value for name, value in network.state_dict().items()}
    torch.save(
        dict(epoch=100, state_dict=state, optimizer={}), tmp_path / 'checkpoint_0099.pth.tar'
    )
    network.fc = nn.Identity()
    return tmp_path / 'checkpoint_0099.pth.tar', network.eval()


def test_a_figure_from_a_file_of_another_library(call, theirs, image_folder, tmp_path):
    file, network = theirs
    images = [
        f"data.{part}={{'type': 'ImageFolder', 'root': '{image_folder(per_class=n, name=part)}'}}"
        for part, n in (('train', 10), ('val', 2), ('test', 4))
    ]
    code, out, err = call(
        'import_checkpoint',
        file,
        '--out',
        tmp_path / 'out',
        '--cfg-options',
        images[0],
        'data.eval_size=24',
        'data.eval_resize=24',
    )
    assert code == 0 and not err
    for said in (
        'checkpoint_0099.pth.tar',
        'layout simsiam',
        "name='resnet18', layers=[1, 1, 1, 1]",
        '16 - batchnorm',
        'optimizer',
        f'ssl-zoo knn {tmp_path}/out/imported.pth',
    ):
        assert said in out, said
    code, out, err = call(
        'knn',
        tmp_path / 'out' / 'imported.pth',
        '--workers',
        0,
        '--k',
        1,
        3,
        '--cfg-options',
        *images[1:],
    )
    assert code == 0 and 'top-1' in out
    row = json.loads((tmp_path / 'out' / 'results.jsonl').read_text().splitlines()[0])
    assert (
        row['n'] == 12
        and row['config']['method']['source']['layout'] == 'simsiam'
        and row['value'] > 50
    )
    [stored] = (tmp_path / 'out' / 'features').glob('test-*/features.npy')
    source = ImageFolder(str(tmp_path / 'test'))
    pixels = (
        np.stack([np.asarray(Image.open(tmp_path / 'test' / name)) for name in source.files]) / 255
    )
    x = (
        torch.from_numpy((pixels - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225))
        .permute(0, 3, 1, 2)
        .float()
    )
    with torch.no_grad():
        np.testing.assert_allclose(np.load(stored), network(x).numpy(), rtol=1e-4, atol=1e-4)
    code, out, err = call(
        'knn',
        tmp_path / 'out' / 'imported.pth',
        '--network',
        'target',
        '--cfg-options',
        *images[1:],
    )
    assert code == 2 and "Imported has no 'target' network" in err


def test_mistakes_are_told_in_a_sentence(call, theirs, tmp_path):
    (tmp_path / 'page.pth').write_text('<html>not found</html>')
    for arguments, sentence in (
        ([tmp_path / 'none.pth'], 'error: there is no file at'),
        ([tmp_path / 'page.pth'], 'is not a checkpoint that can be read'),
        ([theirs[0], '--layout', 'moko'], "error: the layout is 'moko': did you mean 'moco'"),
        ([theirs[0], '--layout', 'moco'], 'does not look like moco (facebookresearch/moco'),
        ([theirs[0], '--backbone', 'resnet18'], 'lacks layer1.1.bn1.bias'),
        (
            [theirs[0], '--cfg-options', 'epochs=3'],
            'an import can change data, workers, channels_last',
        ),
    ):
        code, out, err = call('import_checkpoint', *arguments, '--out', tmp_path / 'out')
        assert code == 2 and sentence in err and not out and err.count('\n') == 1
    assert not (tmp_path / 'out').exists()
    blocked = tmp_path / 'blocked'
    blocked.write_text('')
    code, out, err = call('import_checkpoint', theirs[0], '--out', blocked)
    assert code == 2 and 'choose another --out' in err


def test_help_loads_nothing_heavy(root):
    code = (
        'import sys, runpy; sys.argv = ["import_checkpoint.py", "--help"]\n'
        'try: runpy.run_path("tools/import.py", run_name="__main__")\n'
        'except SystemExit: pass\n'
        'print([m for m in ("torch", "timm", "mmengine", "numpy") if m in sys.modules])'
    )
    out = subprocess.run(
        [sys.executable, '-c', code], cwd=root, check=True, capture_output=True, text=True
    ).stdout
    assert out.strip().endswith('[]') and '--layout' in out
