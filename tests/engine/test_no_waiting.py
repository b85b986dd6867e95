"""Between progress lines nothing makes the host wait for the device.

The whole loop runs on torch's meta device, whose tensors have a shape and no values. Whatever would
wait for a GPU (item, bool, tolist, cpu, nonzero, indexing by a mask) needs a value and raises.
"""

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from ssl_zoo.config.loading import load_config
from ssl_zoo.data.crop import crop_batch, crop_boxes
from ssl_zoo.data.views import View, sample
from ssl_zoo.engine import model as model_module
from ssl_zoo.engine.trainer import build_trainer
from ssl_zoo.registry import METHODS

BACKBONE = dict(name='resnet18', stem='cifar', width=0.125, layers=[1, 1, 1, 1])
CONFIGS = {
    load_config(path).method['type']: path
    for path in (Path(__file__).parents[2] / 'configs').glob('[!_]*/digits*.py')
    if path.parent.name != 'studies'
}


@pytest.fixture
def on_meta(tmp_path, monkeypatch):
    """Function: a run on the meta device, with a method's digits config, and the steps at which it
    made a progress line.
    """

    def make(name='BYOL'):
        monkeypatch.setattr(model_module, 'wrap_model', lambda method, *_, **__: method.to('meta'))
        monkeypatch.setattr(
            torch, 'autocast', lambda *_, **__: nullcontext()
        )  # knows no meta device
        settings = load_config(
            CONFIGS[name],
            [
                'batch_size=64',
                'workers=0',
                'log_every=3',
                'online_eval.every=0',
                'data.train.split=val',
                'data.val=None',
                'epochs=100',
            ],
        )
        settings.method['backbone'] = BACKBONE
        run = build_trainer(settings, tmp_path / 'run')
        lines = []
        for hook in run.hooks:
            if type(hook).__name__ == 'ProgressHook':
                hook.report = lambda runner, done, hook=hook: lines.append(done)
            elif type(hook).__name__ == 'ViewsPictureHook':
                hook.done = True
            elif type(hook).__name__ == 'NonFiniteHook':
                hook.after_optimizer_step = lambda runner: None  # looks at progress lines
        run.model.train()
        run.call_hook('before_train')
        return run, lines

    return make


OFTEN = ('BYOL', 'MoCo', 'SwAV')  # an average, a queue, codes; the other methods are long tests


@pytest.mark.parametrize(
    'name',
    [
        name if name in OFTEN else pytest.param(name, marks=pytest.mark.long)
        for name in sorted(CONFIGS)
    ],
)
def test_steps_ask_nothing_of_the_device(on_meta, name):
    run, lines = on_meta(name)
    run.forward_to(7)
    assert run.step == 7 and lines == [1, 3, 6]
    assert all(p.is_meta for p in run.method.parameters())


def test_that_is_every_method():
    assert set(CONFIGS) == {
        name
        for name in METHODS.names()
        if METHODS.find(name).__module__.startswith('ssl_zoo.methods')
    }


def test_images_on_the_device_ask_nothing_either():
    view = View(
        20, jitter=(0.4, 0.4, 0.2, 0.1), jitter_p=0.8, gray_p=0.2, blur_p=0.5, solarize_p=0.2
    )
    index = torch.arange(16)
    rows = sample(view, 0, index.numpy(), index.numpy(), 0)
    images = torch.empty(16, 3, 24, 24, dtype=torch.uint8, device='meta')
    cropped = crop_batch(images, crop_boxes(rows, 24, 24).to('meta'), view.size, view.interpolation)
    assert cropped.shape == (16, 3, 20, 20) and cropped.is_meta


def test_what_waits_is_caught(on_meta, monkeypatch):
    """The test above would see it."""
    run, _ = on_meta()
    for wait in (
        lambda x: x.item(),
        lambda x: bool(x > 0),
        lambda x: x.cpu(),
        lambda x: x[None][(x > 0)[None]],
    ):
        monkeypatch.setattr(
            run.method, 'after_step', lambda wait=wait: wait(next(run.method.parameters()).sum())
        )
        with pytest.raises((RuntimeError, NotImplementedError)):
            run.forward_to(run.iter + 1)
