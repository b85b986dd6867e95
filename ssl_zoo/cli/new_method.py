"""Begin a method of your own: a method file with a working toy loss, a config and a test.

python tools/new_method.py my_method --out my_methods      # in a folder of your own; nothing in this repository changes
python tools/new_method.py my_method                       # in this repository: methods/, configs/my_method/, tests/methods/
"""

import argparse
import keyword
import re
import shlex
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

METHOD = '''"""{title}: what it is (authors, year, arXiv number).

Where the paper and its official code differ, say here which one this file follows, and what deviates from both.
"""
from torch import Tensor

from ssl_zoo.backbones import build_backbone
from ssl_zoo.layers import mlp
from ssl_zoo.losses import feature_std
from ssl_zoo.method import Method
from ssl_zoo.registry import METHODS


def toy_loss(z1: Tensor, z2: Tensor) -> Tensor:
    """Pulls the two views of an image together and keeps every dimension's deviation at 1. Put your formula here.

    Args:
        z1, z2: (B, D) projections.
    Returns:
        Scalar.
    """
    pull = (z1 - z2).square().mean()
    keep = sum((1 - z.std(0)).relu().mean() for z in (z1, z2))
    return pull + keep


@METHODS.register_module()
class {cls}(Method):
    """One sentence that says what it does.

    Args:
        backbone: keys of build_backbone, at least ``name``.
        hidden_dim, proj_dim: widths of the projector.
    """

    n_views = 2

    def __init__(self, backbone: dict, hidden_dim: int = 512, proj_dim: int = 128):
        super().__init__()
        self.backbone = build_backbone(**backbone)
        self.embed_dim = self.backbone.embed_dim
        self.projector = mlp(self.embed_dim, hidden_dim, proj_dim)

    def loss(self, views: list[Tensor], **batch) -> dict[str, Tensor | float]:
        z1, z2 = (self.projector(self.backbone(x)).float() for x in views)   # (B, proj_dim)
        return dict(loss=toy_loss(z1, z2), feature_std=feature_std(z1))                # 'loss' is minimised, the rest is logged

    # What must happen once per optimiser step (EMA, queue, centre) goes into after_step(self); name what it changes:
    # updated_after_step = ('target',)
'''

CONFIG = '''"""{title} on scikit-learn's digits: a quick look whether it learns.

    python tools/train.py {config}

Cost: a minute or two on two CPU cores.
Accuracy: not measured yet.
"""
{base}
method = dict(type='{cls}', backbone=dict(name='resnet18', layers=(1, 1, 1, 1), width=0.5), hidden_dim=512, proj_dim=128)

_view = dict(size=32, crop=(0.6, 1.0), flip_p=0.0, blur_p=1.0, blur_sigma=(0.1, 2.5))
views = [_view, _view]

optimizer = dict(type='SGD', momentum=0.9)
epochs = 30
batch_size = 64
base_lr = 0.5
weight_decay = 1e-4
warmup_epochs = 2
workers = 1
online_eval = dict(every=5)
checkpoint = dict(every=10)
'''

BASE_INSIDE = "_base_ = '../_base_/digits.py'\n"
BASE_OUTSIDE = """imports = ['{name}.py']

data = dict(train=dict(type='Digits', split='train'), val=dict(type='Digits', split='val'), test=dict(type='Digits', split='test'),
            mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
"""

TEST = '''"""{title}: its loss by hand, its gradients, a short run."""
import sys
from pathlib import Path

import pytest
import torch

from ssl_zoo.build import build_method
from ssl_zoo.config.loading import load_config
from ssl_zoo.engine.runner import build_runner

CONFIG = Path(__file__).{config_from_test}
SMALL = ['method.backbone.width=0.125', 'method.hidden_dim=32', 'method.proj_dim=16', 'data.train.split=val', 'data.val=40',
         'data.test=None', 'views.0.size=20', 'views.1.size=20', 'batch_size=20', 'workers=0', 'epochs=2', 'warmup_epochs=0',
         'online_eval.every=0']


@pytest.fixture
def method():
    return build_method(load_config(CONFIG, SMALL)).train()


def test_loss_equals_its_formula_by_loops(method):
    toy_loss = sys.modules[type(method).__module__].toy_loss
    z1, z2 = torch.randn(5, 3, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)
    pull = sum((z1[i, d] - z2[i, d]).item() ** 2 for i in range(5) for d in range(3)) / 15
    keep = 0.0
    for z in (z1, z2):
        for d in range(3):
            mean = sum(z[:, d].tolist()) / 5
            deviation = (sum((v - mean) ** 2 for v in z[:, d].tolist()) / 4) ** 0.5
            keep += max(0.0, 1 - deviation) / 3
    assert toy_loss(z1, z2).item() == pytest.approx(pull + keep, rel=1e-9)


def test_gradient_reaches_every_trained_parameter_and_nothing_else(method):
    method.loss([torch.randn(6, 3, 20, 20) for _ in range(2)])['loss'].backward()
    for name, parameter in method.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name


def test_a_short_run(tmp_path):
    runner = build_runner(load_config(CONFIG, SMALL), tmp_path / 'run')
    runner.train()
    assert runner.step == runner.max_steps == 14
    assert (tmp_path / 'run' / 'checkpoints' / 'step_00000014.pth').exists()
'''


def files(name: str, out: Path | None) -> dict[Path, str]:
    """Path -> text of the three files."""
    cls = ''.join(part.capitalize() for part in name.split('_'))
    title = ' '.join(name.split('_')).capitalize()
    if out is None:
        method, config, test = (
            ROOT / f'methods/{name}.py',
            ROOT / f'configs/{name}/digits.py',
            ROOT / f'tests/methods/test_{name}.py',
        )
        base, shown, config_from_test = (
            BASE_INSIDE,
            f'configs/{name}/digits.py',
            f"parents[2] / 'configs/{name}/digits.py'",
        )
    else:
        method, config, test = (
            out / f'{name}.py',
            out / f'{name}_digits.py',
            out / f'test_{name}.py',
        )
        base, shown, config_from_test = (
            BASE_OUTSIDE.format(name=name),
            config.as_posix(),
            f"with_name('{name}_digits.py')",
        )
    return {
        method: METHOD.format(title=title, cls=cls),
        config: CONFIG.format(title=title, cls=cls, config=shown, base=base),
        test: TEST.format(title=title, config_from_test=config_from_test),
    }


def mistake(name: str, texts: dict[Path, str]) -> str | None:
    """What is wrong with the name or the place, in a sentence; None if nothing is."""
    from ssl_zoo.registry import METHODS

    if (
        not re.fullmatch(r'[a-z][a-z0-9_]*', name)
        or keyword.iskeyword(name)
        or name.endswith('_')
        or '__' in name
    ):
        return f"{name!r} cannot be a method's file: use small letters, digits and single _, such as my_method"
    cls = re.search(r'^class (\w+)', next(iter(texts.values())), re.M).group(1)
    taken = [other for other in METHODS.names() if other.lower() == cls.lower()]
    if taken:
        return f'the zoo already has a method {taken[0]!r}; choose another name'
    there = [path for path in texts if path.exists()]
    if there:
        return (
            f'{there[0]} exists already, and nothing is overwritten; choose another name or folder'
        )
    return None


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(
        description='Begin a method of your own: method file, config and test.'
    )
    parser.add_argument('name', help='such as my_method')
    parser.add_argument(
        '--out', type=Path, help='a folder of your own; default: inside this repository'
    )
    args = parser.parse_args(argv)
    texts = files(args.name, args.out)
    try:
        wrong = mistake(args.name, texts)
    except OSError as error:  # a name or a path that is too long
        wrong = f'cannot look at the place of {args.name}: {error}; choose a shorter name, or another folder'
    if wrong:
        print(f'error: {wrong}', file=sys.stderr)
        return 2
    try:
        for path, text in texts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    except OSError as error:
        print(f'error: cannot write {path}: {error}', file=sys.stderr)
        return 2
    method, config, test = texts
    print(
        f'the method  {method}\nits config  {config}\nits test    {test}\n\n'
        f'try them    {shlex.join(["python", "-m", "pytest", "-q", str(test)])}\n'
        f'            {shlex.join(["python", str(Path(sys.argv[0]).with_name("train.py")), str(config)])}'
    )
    return 0


if __name__ == '__main__':
    sys.exit(main())
