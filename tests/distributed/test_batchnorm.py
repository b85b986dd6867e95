"""BatchNorm over processes and over parts of a batch is BatchNorm on the batch that it says."""

import copy

import pytest
import torch
from torch import nn

from ssl_zoo.distributed.batchnorm import (
    GlobalBatchNorm,
    RunningStatistics,
    SplitBatchNorm2d,
    convert_sync_batchnorm,
    split_batchnorm,
    standardize,
    unsplit_batchnorm,
)
from ssl_zoo.errors import ConfigError

pytestmark = pytest.mark.quick

C = 3


def images(n=6, ndim=4, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(n, C, *[4, 5][: ndim - 2], generator=generator, dtype=torch.float64) * 2 + 1
    ).to(dtype)


def pair(ndim=4, dtype=torch.float32, **arguments):
    """torch's layer and the same as GlobalBatchNorm."""
    plain = (nn.BatchNorm2d if ndim == 4 else nn.BatchNorm1d)(C, **arguments).to(dtype)
    if plain.affine:
        nn.init.normal_(plain.weight)
        nn.init.normal_(plain.bias)
    return plain, convert_sync_batchnorm(copy.deepcopy(plain), torch.device('cpu'))


def passed(layer, x):
    """Output and gradients of a loss that weighs every value in its own way."""
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    layer.zero_grad()
    out = layer(x)
    (
        out.double() * torch.linspace(-1, 2, out.numel(), dtype=torch.float64).view(out.shape)
    ).sum().backward()
    return [out.detach(), x.grad, *(p.grad for p in layer.parameters())]


CASES = {
    '2d': {},
    '1d': dict(ndim=2),
    '1d of sequences': dict(ndim=3),
    'float64': dict(dtype=torch.float64),
    'no affine': dict(affine=False),
    'momentum': dict(momentum=0.7),
    'momentum None': dict(momentum=None),
    'no statistics': dict(track_running_stats=False),
    'eps': dict(eps=0.5),
    'nothing': dict(affine=False, track_running_stats=False, dtype=torch.float64, ndim=2),
}


@pytest.mark.parametrize('case', CASES)
def test_on_one_process_it_is_torchs(case):
    arguments = dict(CASES[case])
    plain, other = pair(**arguments)
    ndim, dtype = arguments.get('ndim', 4), arguments.get('dtype', torch.float32)
    tight = dict(rtol=1e-12, atol=1e-12) if dtype == torch.float64 else dict(rtol=1e-4, atol=1e-5)
    assert type(other) is GlobalBatchNorm and isinstance(other, nn.modules.batchnorm._BatchNorm)
    for step in range(3):
        x = images(5 + step, ndim, dtype, seed=step)
        for a, b in zip(passed(plain, x), passed(other, x), strict=True):
            torch.testing.assert_close(b, a, **tight)
    assert list(plain.state_dict()) == list(other.state_dict())
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], value, **tight)
    plain.eval(), other.eval()
    before = copy.deepcopy(other.state_dict())
    for a, b in zip(passed(plain, x), passed(other, x), strict=True):
        torch.testing.assert_close(b, a, **tight)
    assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())


def test_bf16_and_memory_formats_are_those_of_the_input():
    plain, other = pair()
    half = images(dtype=torch.bfloat16)
    with torch.autocast('cpu', torch.bfloat16):
        a, b = (passed(layer, half) for layer in (plain, other))
    assert (
        b[0].dtype == torch.bfloat16
        and b[1].dtype == torch.bfloat16
        and b[2].dtype == torch.float32
    )
    for x, y in zip(a, b, strict=True):
        torch.testing.assert_close(y.float(), x.float(), rtol=2e-2, atol=4e-2)
    torch.testing.assert_close(
        other.running_var, plain.running_var, rtol=1e-3, atol=1e-3
    )  # computed in float32
    last = images().contiguous(memory_format=torch.channels_last)
    a, b = (passed(layer, last) for layer in (plain, other))
    torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-5)
    assert b[0].is_contiguous(memory_format=torch.channels_last)


def test_gradients_are_those_of_finite_differences():
    layer = GlobalBatchNorm(C).double()
    x = images(4, 3, torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(layer, (x,))
    assert torch.autograd.gradcheck(
        lambda z: standardize(z), (images(4, 2, torch.float64).requires_grad_(),)
    )


def test_standardised_is_batchnorm_without_parameters():
    z = images(8, 2, torch.float64)
    expected = (z - z.mean(0)) / (z.var(0, correction=0) + 0.1).sqrt()
    torch.testing.assert_close(standardize(z, eps=0.1), expected)
    torch.testing.assert_close(standardize(z), nn.BatchNorm1d(C, affine=False).double()(z))


def test_synchronise_converts_what_it_says():
    network = nn.Sequential(
        nn.BatchNorm2d(C),
        nn.Sequential(nn.BatchNorm1d(C, affine=False), nn.LayerNorm(C)),
        nn.GroupNorm(1, C),
    )
    weight, names = network[0].weight, list(network.state_dict())
    assert convert_sync_batchnorm(network, torch.device('cpu')) is network
    assert [type(m) for m in network.modules() if not isinstance(m, nn.Sequential)] == [
        GlobalBatchNorm,
        GlobalBatchNorm,
        nn.LayerNorm,
        nn.GroupNorm,
    ]
    assert network[0].weight is weight and list(network.state_dict()) == names
    convert_sync_batchnorm(network, torch.device('cpu'))  # once more changes nothing
    from timm.layers import BatchNormAct2d

    split = split_batchnorm(nn.Sequential(nn.BatchNorm2d(C)), 2)[0]
    for layer, name in (
        (BatchNormAct2d(C), 'BatchNormAct2d'),
        (split, 'SplitBatchNorm2d'),
        (nn.BatchNorm3d(C), 'BatchNorm3d'),
    ):
        with pytest.raises(
            ConfigError,
            match=f'1.norm is a {name}, whose .* cannot .* on CPUs.*sync_batchnorm=False',
        ):
            convert_sync_batchnorm(
                nn.Sequential(nn.Identity(), nn.ModuleDict(dict(norm=layer))), torch.device('cpu')
            )


def test_on_gpus_it_is_torchs_and_timms_own():
    from timm.layers import BatchNormAct2d

    network = convert_sync_batchnorm(
        nn.Sequential(nn.BatchNorm2d(C), nn.BatchNorm1d(C), BatchNormAct2d(C)), torch.device('cuda')
    )
    assert all(isinstance(layer, nn.SyncBatchNorm) for layer in network)


def test_statistics_are_averaged_of_what_each_process_takes_alone():
    network = nn.Sequential(
        nn.BatchNorm2d(C),
        nn.BatchNorm1d(C, track_running_stats=False),
        nn.SyncBatchNorm(C),
        GlobalBatchNorm(C),
        split_batchnorm(nn.Sequential(nn.BatchNorm2d(C)), 2),
        nn.LayerNorm(C),
    )
    buffers = RunningStatistics(network).buffers
    assert {id(b) for b in buffers} == {
        id(b)
        for layer in (network[0], network[4][0])
        for b in (layer.running_mean, layer.running_var)
    }
    RunningStatistics(nn.Sequential(nn.LayerNorm(C))).average()  # nothing to do


@pytest.mark.parametrize('last', [False, True])
def test_split_batchnorm_is_batchnorm_on_each_part(last):
    layer = split_batchnorm(nn.Sequential(nn.BatchNorm2d(C, momentum=0.3)), 3)[0].double()
    nn.init.normal_(layer.weight)
    parts = [nn.BatchNorm2d(C, momentum=0.3).double() for _ in range(3)]
    for part in parts:
        part.load_state_dict(layer.state_dict())
    x = images(12, dtype=torch.float64)
    x = x.contiguous(memory_format=torch.channels_last) if last else x
    out = layer(x)
    for i, part in enumerate(parts):
        torch.testing.assert_close(out[i::3], part(x[i::3]))
    for name in ('running_mean', 'running_var'):
        torch.testing.assert_close(
            getattr(layer, name), sum(getattr(part, name) for part in parts) / 3
        )
    assert (
        layer.num_batches_tracked == 1
        and out.is_contiguous(memory_format=torch.channels_last) == last
    )
    before = copy.deepcopy(layer.state_dict())
    plain = nn.BatchNorm2d(C).double().eval()
    plain.load_state_dict(before)
    torch.testing.assert_close(layer.eval()(x), plain(x))
    assert all(torch.equal(value, before[key]) for key, value in layer.state_dict().items())


def test_splitting_and_joining_leave_everything_but_the_class():
    network = nn.Sequential(nn.BatchNorm2d(C), nn.BatchNorm1d(C), nn.Sequential(nn.BatchNorm2d(C)))
    names, weight = list(network.state_dict()), network[0].weight
    assert split_batchnorm(network, 1) is network and type(network[0]) is nn.BatchNorm2d
    assert split_batchnorm(network, 2) is network
    assert [type(network[0]), type(network[1]), type(network[2][0])] == [
        SplitBatchNorm2d,
        nn.BatchNorm1d,
        SplitBatchNorm2d,
    ]
    assert (
        unsplit_batchnorm(network) is network
        and type(network[0]) is type(network[2][0]) is nn.BatchNorm2d
    )
    assert list(network.state_dict()) == names and network[0].weight is weight
    x = images(5)  # five images: no longer in two parts
    torch.testing.assert_close(network[0](x), nn.BatchNorm2d(C)(x))


def test_what_cannot_be_split():
    for splits in (0, -1, 1.5, '2', None):
        with pytest.raises(ConfigError, match='bn_splits=.* whole number of at least 1'):
            split_batchnorm(nn.BatchNorm2d(C), splits)
    layer = split_batchnorm(nn.Sequential(nn.BatchNorm2d(C)), 3)
    for n in (4, 3):
        with pytest.raises(
            ValueError,
            match='over 3 parts needs a batch that they divide into at least two images each, got '
            f'{n}',
        ):
            layer(images(n))


# --- two processes, each with images of its own

TWO = """
import importlib.util, sys, torch
from pathlib import Path
from torch import nn
from ssl_zoo.distributed.batchnorm import *
from ssl_zoo.distributed import all_reduce_sum, rank
from ssl_zoo.distributed.process_group import process_group
from ssl_zoo.errors import ConfigError
spec = importlib.util.spec_from_file_location('its_test', sys.argv[1])
test = importlib.util.module_from_spec(spec)
spec.loader.exec_module(test)
with process_group(30):
    out = test.of_a_process(rank())
    torch.save(out, f'{rank()}.pt')
"""
GLOBAL = {
    '2d': {},
    '1d': dict(ndim=2),
    'no affine': dict(affine=False),
    'momentum None': dict(momentum=None),
    'no statistics': dict(track_running_stats=False),
}
SHARES = (slice(0, 5), slice(5, 7))  # of seven images


def weighed(layer, x, weights, train=True):
    layer.train(train)
    x = x.clone().requires_grad_()
    layer.zero_grad()
    out = layer(x)
    (out * weights).sum().backward()
    return [out.detach(), x.grad]


def weights_of(x):
    return torch.linspace(-1, 2, x.numel(), dtype=x.dtype).view(x.shape)


def of_a_process(rank):
    """All that is asked of two processes."""
    out = {}
    for case, arguments in GLOBAL.items():
        torch.manual_seed(1)
        ndim = arguments.get('ndim', 4)
        layer = pair(**arguments, dtype=torch.float64)[1]
        seen = []
        for step in range(3):
            x = images(7, ndim, torch.float64, seed=step)
            seen += weighed(layer, x[SHARES[rank]], weights_of(x)[SHARES[rank]])
            seen += [p.grad for p in layer.parameters()]
        seen += weighed(layer, x[SHARES[rank]], weights_of(x)[SHARES[rank]], train=False)
        out[case] = seen, layer.state_dict()
    z = images(7, 2, torch.float64)
    out['standardize'] = weighed(lambdas(standardize), z[SHARES[rank]], weights_of(z)[SHARES[rank]])
    x = images(16, dtype=torch.float64)
    for splits in (2, 4, 1):
        torch.manual_seed(1)
        layer = split_batchnorm(nn.Sequential(nn.BatchNorm2d(C)), 2).double()
        layer[0].splits = splits
        layer[0].running_var.fill_(3)
        seen = weighed(layer, x[rank::2], weights_of(x)[rank::2])
        before = layer[0].running_mean.clone(), layer[0].running_var.clone()
        RunningStatistics(layer).average()
        out[f'split {splits}'] = seen, layer.state_dict(), before
    for splits, n in ((3, 12), (2, 2)):
        try:
            split_batchnorm(nn.Sequential(nn.BatchNorm2d(C)), splits)(images(n)[rank::2])
        except (ConfigError, ValueError) as error:
            out[f'refused {splits}'] = f'{type(error).__name__}: {error}'
    return out


def lambdas(function):
    class Layer(nn.Module):
        def forward(self, x):
            return function(x)

    return Layer()


@pytest.fixture(scope='module')
def two(tmp_path_factory, module_processes):
    folder = tmp_path_factory.mktemp('two')
    (folder / 'two.py').write_text(TWO)
    for code, _, err in module_processes(2, folder / 'two.py', __file__, cwd=folder).ended():
        assert code == 0, err
    return [torch.load(folder / f'{i}.pt') for i in (0, 1)]


@pytest.mark.parametrize('case', GLOBAL)
def test_over_two_processes_with_unequal_shares_it_is_batchnorm_on_all_images(two, case):
    torch.manual_seed(1)
    arguments = GLOBAL[case]
    plain, n = (
        pair(**arguments, dtype=torch.float64)[0],
        len(list(pair(**arguments)[0].parameters())),
    )
    expected = []
    for step in range(3):
        x = images(7, arguments.get('ndim', 4), torch.float64, seed=step)
        expected += weighed(plain, x, weights_of(x)) + [p.grad.clone() for p in plain.parameters()]
    evaluated = weighed(plain, x, weights_of(x), train=False) if case != 'no statistics' else None
    for step in range(3):
        seen = [part[case][0][step * (2 + n) : (step + 1) * (2 + n)] for part in two]
        whole = expected[step * (2 + n) : (step + 1) * (2 + n)]
        for i in range(2):  # output, gradient of the input
            torch.testing.assert_close(torch.cat([s[i] for s in seen]), whole[i])
        for i in range(2, 2 + n):  # of parameters: the sum over processes is that of the batch
            torch.testing.assert_close(seen[0][i] + seen[1][i], whole[i])
    if evaluated:
        for i in (0, 1):
            torch.testing.assert_close(
                torch.cat([part[case][0][i - 2] for part in two]), evaluated[i]
            )
    for part in two:
        assert list(part[case][1]) == list(plain.state_dict())
        for name, value in plain.state_dict().items():
            torch.testing.assert_close(part[case][1][name], value)


def test_standardised_over_two_processes(two):
    z = images(7, 2, torch.float64)
    for i, whole in enumerate(weighed(lambdas(standardize), z, weights_of(z))):
        torch.testing.assert_close(torch.cat([part['standardize'][i] for part in two]), whole)


@pytest.mark.parametrize('splits', [2, 4])
def test_parts_shared_out_over_two_processes_are_those_of_one(two, splits):
    """Image i is in part i % splits, and on process i % 2."""
    torch.manual_seed(1)
    layer, x = (
        split_batchnorm(nn.Sequential(nn.BatchNorm2d(C)), splits).double(),
        images(16, dtype=torch.float64),
    )
    layer[0].running_var.fill_(3)
    for i, whole in enumerate(weighed(layer, x, weights_of(x))):
        torch.testing.assert_close(
            torch.stack([part[f'split {splits}'][0][i] for part in two], 1).flatten(0, 1), whole
        )
    for part in two:
        for name, value in layer.state_dict().items():
            torch.testing.assert_close(part[f'split {splits}'][1][name], value)
    (mean0, _), (mean1, _) = (part[f'split {splits}'][2] for part in two)
    assert not torch.allclose(mean0, mean1)  # before they were averaged


def test_more_processes_than_parts_are_as_many_parts_and_other_numbers_are_refused(two):
    x = images(16, dtype=torch.float64)
    for i, part in enumerate(two):  # one part, two processes: each takes what it has
        torch.testing.assert_close(part['split 1'][0][0], nn.BatchNorm2d(C).double()(x[i::2]))
        assert (
            part['refused 3']
            == 'ConfigError: bn_splits=3 on 2 processes, but one must be a multiple of the other'
        )
        assert part['refused 2'].startswith(
            'ValueError: BatchNorm over 1 parts needs a batch that they divide into at least two '
            'images'
        )
    states = [part['split 1'][1] for part in two]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    both = [nn.BatchNorm2d(C).double() for _ in range(2)]
    for i, layer in enumerate(both):
        layer.running_var.fill_(3)
        layer(x[i::2])
    for name in ('running_mean', 'running_var'):
        torch.testing.assert_close(
            states[0][f'0.{name}'], sum(getattr(layer, name) for layer in both) / 2
        )
