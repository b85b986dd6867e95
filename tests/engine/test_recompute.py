"""recompute=True: less memory, the same gradients and statistics, bit for bit."""

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from ssl_zoo.backbones import build_backbone
from ssl_zoo.build import build_method
from ssl_zoo.config.loading import load_config
from ssl_zoo.distributed.batchnorm import GlobalBatchNorm, split_batchnorm
from ssl_zoo.engine.model import transform_backbones
from ssl_zoo.engine.recompute import recompute_activations
from ssl_zoo.engine.trainer import build_trainer
from ssl_zoo.errors import ConfigError

RESNET = dict(name='resnet18', stem='cifar', width=0.125)


def with_global_norm(network):
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.__class__ = GlobalBatchNorm
    return network


def outcome(network, passes=2):
    """Loss, gradients and state after passes in which dropout draws from a fixed seed."""
    torch.manual_seed(3)
    loss = sum(
        network(torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(i)))
        .square()
        .mean()
        for i in range(passes)
    )
    loss.backward()
    return [loss, *(p.grad for p in network.parameters()), *network.state_dict().values()]


@pytest.mark.parametrize(
    'network',
    [
        lambda: build_backbone(**RESNET),
        lambda: split_batchnorm(build_backbone(**RESNET), 2),
        lambda: with_global_norm(build_backbone(**RESNET)),
        lambda: build_backbone('resnet50', width=0.25, layers=[1, 1, 1, 1]),
        lambda: build_backbone(
            'vit_tiny_patch16_224', img_size=32, patch_size=8, depth=2, drop_path_rate=0.5
        ),
    ],
    ids=['resnet', 'split', 'global', 'bottleneck', 'vit'],
)
def test_gradients_and_statistics_stay_bit_for_bit(network):
    plain = network().train()
    again, calls = copy.deepcopy(plain), []
    recompute_activations(again)
    for layer in again.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.register_forward_hook(lambda *_: calls.append(1))
    expected, got = outcome(plain), outcome(again)
    assert len(expected) == len(got) and all(
        torch.equal(a, b) for a, b in zip(expected, got, strict=True)
    )
    layers = sum(isinstance(layer, (nn.Conv2d, nn.Linear)) for layer in again.modules())
    assert len(calls) > 2 * layers + 2  # some were computed once more
    calls.clear()
    again.eval()(torch.zeros(4, 3, 32, 32)).sum().backward()
    with torch.no_grad():
        again.train()(torch.zeros(4, 3, 32, 32))
    assert len(calls) == 2 * layers  # without gradient, or in evaluation, never


def test_it_is_the_trained_network_that_is_recomputed(monkeypatch):
    settings = load_config(Path(__file__).parents[2] / 'configs/dino/digits.py', ['recompute=True'])
    method = build_method(settings)
    transform_backbones(method, settings, torch.device('cpu'))
    online, other = (
        method.get_submodule(method.networks[name][0]) for name in ('online', 'target')
    )
    assert not any(
        p.requires_grad for p in method.backbone.parameters()
    )  # evaluation's network is the teacher
    assert type(online.layer1[0]) is not type(other.layer1[0]) and isinstance(
        online.layer1[0], type(other.layer1[0])
    )


def test_a_copy_is_its_own():
    network = build_backbone(**RESNET).train()
    recompute_activations(network)
    other = copy.deepcopy(network)
    for p in other.layer1.parameters():
        p.data.zero_()
    x = torch.randn(4, 8, 8, 8)
    assert not torch.equal(network.layer1(x), other.layer1(x))


def test_less_is_kept_for_the_backward_pass():
    kept = []
    for recompute in (False, True):
        network, sizes = build_backbone('resnet18', stem='cifar', width=0.25).train(), {}
        if recompute:
            recompute_activations(network)

        def keep(x, sizes=sizes):
            sizes[x.data_ptr()] = x.numel()
            return x

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            held = network(torch.randn(16, 3, 32, 32))  # so that no address is used twice
        del held
        kept.append(sum(sizes.values()))
    assert kept[1] < 0.5 * kept[0]


def test_a_run_is_the_same_run(tiny, tmp_path):
    states = []
    for recompute in (False, True):
        runner = build_trainer(tiny(recompute=recompute, epochs=1), tmp_path / f'{recompute}')
        runner.fit()
        states.append(runner.method.state_dict())
    assert states[0].keys() == states[1].keys() and all(
        torch.equal(states[0][k], states[1][k]) for k in states[0]
    )


def test_what_cannot_be_is_refused(tiny, tmp_path):
    with pytest.raises(ConfigError, match='recompute=True, but it must be False with compile=True'):
        tiny(recompute=True, compile=True)
    with pytest.raises(
        ConfigError,
        match="compile='reduce-overhead', but it must be True or False with accumulate=2",
    ):
        tiny(compile='reduce-overhead', accumulate=2)
    with pytest.raises(
        ConfigError, match="compile='fast', but it must be False, True, 'reduce-overhead'"
    ):
        tiny(compile='fast')
    with pytest.raises(
        ConfigError,
        match='recompute=True needs a backbone of blocks, a ResNet or a ViT, and Linear has none',
    ):
        recompute_activations(nn.Linear(2, 2))
