"""The contract of a method, for every registered method with the arguments of its digits config.

Backbone, views and batch are tiny: what is tested does not depend on their size.
"""

import copy
import re
from pathlib import Path

import pytest
import torch

from ssl_zoo.build import build_method
from ssl_zoo.config.loading import load_config
from ssl_zoo.engine.optim_wrapper import ZooOptimWrapper, build_optimizer
from ssl_zoo.engine.plan import Plan
from ssl_zoo.engine.timed_step import synthetic_batch
from ssl_zoo.registry import METHODS

# Parts that a method's digits config does not switch on: changes to its arguments.
VARIANTS = {
    'BYOL, GroupNorm': ('BYOL', dict(groups=4)),
    'SimCLR, v2 head': ('SimCLR', dict(proj_layers=3)),
    'MoCo v1': ('MoCo', dict(hidden_dim=None)),
    'MoCoV3, ViT heads': ('MoCoV3', dict(proj_layers=3, predictor_norm=True)),
    'DCLW': ('DCL', dict(sigma=0.5)),
    'DINO, gains': ('DINO', dict(norm_last_layer=False)),
    'SwAV, no queue': ('SwAV', dict(queue_size=0)),
    "SimCLR of BYOL's ablation": ('BYOLAblation', dict(target='gradient', pred_layers=0)),
    'a fast predictor and no target': (
        'BYOLAblation',
        dict(target='stop_gradient', negatives=0.0, predictor_lr=10.0),
    ),
}
NAMES = [
    name for name in METHODS.names() if METHODS.find(name).__module__.startswith('ssl_zoo.methods')
]
BACKBONE = dict(name='resnet18', stem='cifar', width=0.125, layers=[1, 1, 1, 1])
IMAGES = 16  # of a forward pass, where a method does not need more
BATCH_NORM = re.compile(r'running_mean|running_var|num_batches_tracked')


def digits_config(name: str) -> Path:
    """The first configs/*/digits*.py of a method: the contract asks for one."""
    for path in sorted((Path(__file__).parents[1] / 'configs').glob('[!_]*/digits*.py')):
        if path.parent.name != 'studies' and load_config(path).method['type'] == name:
            return path
    raise AssertionError(
        f'{name} has no configs/*/digits.py, which this test and the table of all methods need'
    )


# With an average, negatives, a queue, codes, a centre, covariances, whitening, no batch statistics;
# the others are long tests.
OFTEN = ('BYOL', 'SimCLR', 'MoCo', 'SwAV', 'DINO', 'VICReg', 'WMSE', 'BYOL, GroupNorm')


@pytest.fixture(
    params=[
        name if name in OFTEN else pytest.param(name, marks=pytest.mark.long)
        for name in [*NAMES, *VARIANTS]
    ]
)
def settings(request):
    name, changes = VARIANTS.get(request.param, (request.param, {}))
    settings = load_config(digits_config(name))
    settings.method.update(changes, backbone=BACKBONE)
    for view in settings.views:
        view['size'] = 20  # pixels: the smallest view that blur allows
    method = METHODS.create(settings.method)
    images = max(IMAGES, method.microbatch_minimum)
    settings.batch_size = settings.accumulate * images
    settings.batch_size += -settings.batch_size % method.microbatch_multiple
    return settings


class Stepper:
    """A method with its optimizer and a batch.

    By default it stands late in training, when no part is frozen or waits for an epoch.
    """

    def __init__(self, settings, progress=0.5, epoch=10_000.0):
        self.settings = settings
        self.method = build_method(settings).train()
        self.method.progress = progress
        self.method.epoch = epoch
        self.optimizer = build_optimizer(settings, Plan.of(settings, 1257), self.method)
        self.wrapper = ZooOptimWrapper(self.optimizer, self.method, settings, settings.accumulate)
        torch.manual_seed(1)
        self.batch = synthetic_batch(settings, settings.batch_size // settings.accumulate)

    def one_pass(self):
        torch.manual_seed(2)
        return self.method.train_step(self.batch, self.wrapper)

    def step(self):
        for _ in range(self.settings.accumulate):
            out = self.one_pass()
        self.method.after_step()
        return out

    def state(self):
        return {name: value.clone() for name, value in self.method.state_dict().items()}

    def trained(self):
        return {name for name, p in self.method.named_parameters() if p.requires_grad}


def changed(before: dict, after: dict) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_two_steps_are_finite_and_log_keys_are_sane(settings):
    stepper = Stepper(settings)
    for _ in range(2):
        out = stepper.step()
        assert all(value.ndim == 0 and value.isfinite() for value in out.values())
        assert [name for name in out if 'loss' in name] == ['loss']
        assert all(name.isidentifier() for name in out)
        assert 0 <= out['feature_std'] <= 1.001  # every method logs it, to warn of collapse


def test_every_trained_parameter_gets_a_gradient_and_moves(settings):
    stepper = Stepper(settings)
    before = stepper.state()
    stepper.step()
    stepper.step()
    assert not stepper.trained() - changed(before, stepper.state())


def test_what_is_frozen_at_first_rests_and_the_rest_moves(settings):
    stepper = Stepper(settings, progress=0.0, epoch=0.0)
    before = stepper.state()
    frozen = tuple(stepper.method.frozen)
    stepper.one_pass()
    moved = changed(before, stepper.state())
    assert not [name for name in moved if frozen and name.startswith(frozen)]
    assert [name for name in stepper.trained() if 'backbone.conv1' in name or 'f.conv1' in name][
        0
    ] in moved


def test_only_after_step_changes_what_is_said_and_nothing_else(settings):
    stepper = Stepper(settings)
    start = stepper.state()
    stepper.one_pass()
    trained = stepper.state()
    in_pass = {name for name in changed(start, trained) if not BATCH_NORM.search(name)}
    assert in_pass <= stepper.trained()
    stepper.method.after_step()
    moved = changed(trained, stepper.state())
    said = stepper.method.updated_after_step
    assert not [name for name in moved if not said or not name.startswith(said)]
    for prefix in said:
        assert [name for name in moved if name.startswith(prefix)], f'{prefix} does not move'


def test_accumulation_by_two_moves_weights_and_state_once_per_optimizer_step(settings):
    settings.accumulate = 2
    if 'whiten_size' in settings.method:  # half a batch has fewer images to whiten
        settings.method.update(whiten_size=settings.batch_size // 2, proj_dim=8)
    stepper = Stepper(settings)
    start = stepper.state()
    stepper.one_pass()
    half = stepper.state()
    assert all(BATCH_NORM.search(name) for name in changed(start, half))
    stepper.one_pass()
    assert {
        name for name in changed(half, stepper.state()) if not BATCH_NORM.search(name)
    } == stepper.trained()
    stepper.method.after_step()
    after = stepper.state()
    if any('queue' in name for name in after):  # the keys of both passes are in the queue once
        written = [value.item() for name, value in after.items() if name.endswith('written')]
        assert set(written) == {settings.batch_size}
    stepper.method.after_step()  # nothing waits any more: queues and centres stay
    again = stepper.state()
    assert not [
        name
        for name in changed(after, again)
        if name.endswith(('keys', 'written')) or name in ('center.value', 'c.value')
    ]


def test_embeddings_have_the_width_that_is_said(settings):
    method = Stepper(settings).method.eval()
    assert method.embed(torch.randn(3, 3, 20, 20)).shape == (3, method.embed_dim)


def test_evaluation_finds_every_network_and_both_layers(settings):
    stepper = Stepper(settings)
    stepper.step()  # a target that began as a copy has moved
    method = stepper.method.eval()
    images = torch.randn(5, 3, 20, 20)
    out = {}
    for name in method.networks:
        for layer in ('backbone', 'projector'):
            encoder = method.encoder(name, layer)
            with torch.no_grad():
                out[name, layer] = y = encoder(images)
            assert y.ndim == 2 and len(y) == 5 and y.isfinite().all() and y.std(0).max() > 0
            assert any(p.requires_grad for p in encoder.parameters()) == (name == 'online')
            # The encoder shares its weights with the method.
            assert {id(p) for p in encoder.parameters()} <= {id(p) for p in method.parameters()}
        assert out[name, 'backbone'].shape[1] == method.embed_dim
    assert (
        torch.equal(method.encoder()(images), method.embed(images))
        and method.encoder() is method.backbone
    )
    assert torch.equal(
        method.encoder(layer='projector')(images), out[method.main_network, 'projector']
    )
    averages = [
        name
        for name in method.state_dict()
        if name.startswith(('target.net', 'teacher.net', 'key.net', 'momentum.net'))
    ]
    assert set(method.networks) == ({'online', 'target'} if averages else {'online'})
    for layer in ('backbone', 'projector') if averages else ():
        online, target = (method.encoder(name, layer) for name in ('online', 'target'))
        assert [(k, p.shape) for k, p in online.named_parameters()] == [
            (k, p.shape) for k, p in target.named_parameters()
        ]
        assert not {id(p) for p in online.parameters()} & {id(p) for p in target.parameters()}
        assert not torch.equal(out['online', layer], out['target', layer])


def test_a_state_dict_gives_the_same_next_step_bit_for_bit(settings):
    first = Stepper(settings)
    second = Stepper(settings)
    first.step()
    second.one_pass()  # loading a state must drop what this pass left pending
    second.method.load_state_dict(copy.deepcopy(first.method.state_dict()))
    second.optimizer.load_state_dict(copy.deepcopy(first.optimizer.state_dict()))
    for _ in range(2):
        first.step()
        second.step()
    assert not changed(first.state(), second.state())


def test_every_view_matters_and_no_labels_are_needed(settings):
    stepper = Stepper(settings)
    data = stepper.method.data_preprocessor(stepper.batch, True)

    def loss(views):
        torch.manual_seed(2)
        return stepper.method.loss(views, index=data['index'])['loss'].item()

    whole = loss(data['views'])
    assert loss(data['views']) == whole
    for i in range(len(data['views'])):
        other = [view if j != i else view.roll(1, 0) for j, view in enumerate(data['views'])]
        assert loss(other) != whole, f'view {i + 1}'


def test_only_what_is_trained_is_in_the_optimizer_and_averages_are_not(settings):
    stepper = Stepper(settings)
    names = {name for group in stepper.optimizer.param_groups for name in group['names']}
    assert names == stepper.trained()
    stepper.one_pass()
    without = {name for name, p in stepper.method.named_parameters() if not p.requires_grad}
    for prefix in stepper.method.updated_after_step:
        if prefix != 'prototypes':  # SwAV's are trained, and brought back to unit length
            assert not [name for name in names if name.startswith(prefix)]
    assert all(p.grad is None for name, p in stepper.method.named_parameters() if name in without)


def test_bf16_gives_nearly_the_same_loss_and_keeps_float32_weights(settings):
    full = Stepper(settings).one_pass()['loss']
    settings.precision = 'bf16'
    stepper = Stepper(settings)
    assert stepper.step()['loss'].item() == pytest.approx(full.item(), rel=0.05, abs=0.05)
    assert {p.dtype for p in stepper.method.parameters()} == {torch.float32}


def test_prefixes_name_parameters_that_exist(settings):
    method = Stepper(settings, progress=0.0, epoch=0.0).method
    names = list(method.state_dict())
    for prefix in (*method.fixed_lr, *method.frozen, *method.lr_scale, *method.updated_after_step):
        assert [name for name in names if name.startswith(prefix)], prefix


def test_every_method_is_documented():
    for name in NAMES:
        assert METHODS.find(name).__doc__, name
