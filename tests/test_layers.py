import copy
import math

import pytest
import torch
from torch import nn

from ssl_zoo.distributed.batchnorm import SplitBatchNorm2d, split_batchnorm
from ssl_zoo.errors import ConfigError
from ssl_zoo.layers import (
    EMA,
    MovingAverage,
    Queue,
    StdLinear,
    batchnorm_to_groupnorm,
    cosine_schedule,
    mlp,
    multi_crop,
)

pytestmark = pytest.mark.quick


def test_cosine_at_its_ends_and_middle():
    assert cosine_schedule(0.9, 1.0, 0) == 0.9
    assert cosine_schedule(0.9, 1.0, 0.5) == pytest.approx(0.95)
    assert cosine_schedule(0.9, 1.0, 1) == 1.0


def test_mlp_layers_and_initial_weights():
    head = mlp(400, 300, 20, last_bias=False, init='haiku')
    assert [type(layer) for layer in head] == [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear]
    assert head[0].bias.abs().max() == 0
    assert head[3].bias is None
    # Truncated at two sigma: the bound holds, and the deviation is 0.8796 sigma.
    sigma = 400**-0.5
    assert head[0].weight.abs().max() <= 2 * sigma
    assert head[0].weight.std().item() == pytest.approx(0.8796 * sigma, rel=0.01)
    assert mlp(4, 3)[0].bias is not None


def test_ema_moves_parameters_as_the_formula_says_and_leaves_buffers_alone():
    online = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    target = EMA(copy.deepcopy(online))
    with torch.no_grad():
        for p in online.parameters():
            p.add_(torch.randn_like(p))
    online[1].running_mean.fill_(7.0)
    before = [p.clone() for p in target.parameters()]
    target.update(online, decay=0.75)
    for old, now, followed in zip(before, target.parameters(), online.parameters(), strict=True):
        torch.testing.assert_close(now, 0.75 * old + 0.25 * followed)
    assert target.network[1].running_mean.abs().max() == 0


def test_ema_gets_no_gradient_and_runs_in_train_mode():
    target = EMA(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)))
    x = torch.randn(8, 3, requires_grad=True)
    out = target(x)
    assert not out.requires_grad
    assert not any(p.requires_grad for p in target.parameters())
    # BatchNorm normalises by the batch, not by running statistics.
    torch.testing.assert_close(out.mean(0), torch.zeros(4), atol=1e-6, rtol=0)
    assert target.network[1].num_batches_tracked == 1


def test_ema_refuses_another_architecture():
    with pytest.raises(ValueError, match='same architecture'):
        EMA(nn.Linear(3, 4)).update(nn.Linear(3, 5), 0.9)


def test_ema_over_many_small_steps_keeps_float32_precision():
    target = EMA(nn.Linear(1, 1, bias=False))
    online = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(target.network.weight)
    nn.init.ones_(online.weight)
    for _ in range(1000):
        target.update(online, decay=0.9995)
    assert target.network.weight.item() == pytest.approx(1 - 0.9995**1000, rel=1e-4)
    assert not math.isclose(target.network.weight.item(), 0)


@pytest.mark.parametrize(
    ('arguments', 'kinds', 'last'),
    [
        (dict(norm=False), [nn.Linear, nn.ReLU, nn.Linear], None),
        (
            dict(last_norm='affine'),
            [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear, nn.BatchNorm1d],
            (True, True),
        ),
        (
            dict(last_norm='scale'),
            [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear, nn.BatchNorm1d],
            (True, False),
        ),
        (
            dict(last_norm='plain'),
            [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear, nn.BatchNorm1d],
            (None, None),
        ),
    ],
)
def test_mlp_norms(arguments, kinds, last):
    head = mlp(4, 6, 3, **arguments)
    assert [type(layer) for layer in head] == kinds
    if last:
        trained = tuple(
            None if p is None else p.requires_grad for p in (head[-1].weight, head[-1].bias)
        )
        assert trained == last


def test_mlp_biases():
    head = mlp(4, 6, 5, 3, bias=False, last_bias=True)
    assert [layer.bias is not None for layer in head if isinstance(layer, nn.Linear)] == [
        False,
        False,
        True,
    ]


def test_queue_wraps_normalises_and_waits_for_update():
    queue = Queue(5, 2)
    torch.testing.assert_close(queue.keys.norm(dim=1), torch.ones(5))
    before = queue.keys.clone()
    new = torch.tensor([[3.0, 4.0], [0.0, 2.0], [-1.0, 0.0]])
    queue.add(new)
    assert torch.equal(queue.keys, before)  # this step does not see its own keys
    queue.update()
    unit = torch.tensor([[0.6, 0.8], [0.0, 1.0], [-1.0, 0.0]])
    torch.testing.assert_close(queue.keys[:3], unit)
    assert torch.equal(queue.keys[3:], before[3:]) and not queue.full
    queue.add(new[:2])
    queue.add(new[2:])  # two passes of one step
    queue.update()
    torch.testing.assert_close(queue.keys, unit[[2, 1, 2, 0, 1]])  # places 3, 4, 0
    assert queue.full and queue.written == 6
    queue.update()
    assert queue.written == 6  # nothing waits any more


def test_queue_of_more_than_it_holds_keeps_the_newest():
    queue = Queue(2, 1)
    queue.add(torch.tensor([[1.0], [1.0], [-1.0], [-1.0]]))
    queue.update()
    assert queue.keys.flatten().tolist() == [-1.0, -1.0]


def test_moving_average_takes_the_mean_of_what_waits():
    average = MovingAverage(2, decay=0.9)
    average.add(torch.tensor([1.0, 2.0]))
    average.add(torch.tensor([3.0, 4.0]))
    assert average.value.tolist() == [0, 0]
    average.update()
    torch.testing.assert_close(average.value, torch.tensor([0.2, 0.3]))
    average.update()
    torch.testing.assert_close(average.value, torch.tensor([0.2, 0.3]))


def test_split_batchnorm_is_one_batchnorm_per_part():
    plain = nn.Sequential(nn.BatchNorm2d(3))
    nn.init.normal_(plain[0].weight)
    nn.init.normal_(plain[0].bias)
    parts = [copy.deepcopy(plain) for _ in range(2)]
    split = split_batchnorm(copy.deepcopy(plain), 2)
    assert type(split[0]) is SplitBatchNorm2d
    x = torch.randn(6, 3, 4, 4) * 2 + 1
    out = split(x)
    expected = torch.empty_like(x)
    for i, part in enumerate(parts):
        expected[i::2] = part(x[i::2])
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(
        split[0].running_mean, (parts[0][0].running_mean + parts[1][0].running_mean) / 2
    )
    torch.testing.assert_close(
        split[0].running_var, (parts[0][0].running_var + parts[1][0].running_var) / 2
    )
    torch.testing.assert_close(
        split.eval()(x),
        nn.functional.batch_norm(
            x, split[0].running_mean, split[0].running_var, plain[0].weight, plain[0].bias
        ),
    )
    # BatchNorm over the whole batch gives another result.
    assert not torch.allclose(out, plain.train()(x))
    with pytest.raises(ValueError, match='2 parts needs a batch that they divide'):
        split.train()(x[:5])
    assert type(split_batchnorm(copy.deepcopy(plain), 1)[0]) is nn.BatchNorm2d


def test_std_linear_standardises_each_row():
    layer = StdLinear(50, 3)
    x = torch.randn(4, 50)
    weight = layer.weight.detach().double()
    rows = torch.stack([(row - row.mean()) / row.std(correction=0) for row in weight])
    torch.testing.assert_close(
        layer(x).double(), x.double() @ rows.T + layer.bias.double(), rtol=1e-4, atol=1e-4
    )


def test_without_batch_statistics_an_image_does_not_see_the_others():
    from ssl_zoo.backbones import build_backbone

    network = nn.Sequential(build_backbone('resnet18', stem='cifar', width=0.25), mlp(128, 32, 16))
    gamma = network[0].layer1[0].bn2.weight.clone()
    network = batchnorm_to_groupnorm(network, 8).train()
    kinds = {type(layer).__name__ for layer in network.modules()}
    assert not [kind for kind in kinds if 'BatchNorm' in kind] and not kinds & {'Conv2d', 'Linear'}
    assert {'GroupNorm', 'StdConv2d', 'StdLinear'} <= kinds
    assert torch.equal(network[0].layer1[0].bn2.weight, gamma)
    x = torch.randn(4, 3, 16, 16)
    alone = network(x[:1])
    torch.testing.assert_close(network(x)[:1], alone, rtol=1e-4, atol=1e-4)
    conv = network[0].conv1
    weight = conv.weight.detach().flatten(1)
    standardised = (
        (weight - weight.mean(1, keepdim=True)) / weight.std(1, correction=0, keepdim=True)
    ).view_as(conv.weight)
    torch.testing.assert_close(
        conv(x), nn.functional.conv2d(x, standardised, padding=1), rtol=1e-3, atol=1e-3
    )
    with pytest.raises(ConfigError, match='GroupNorm of 5 groups does not fit 32 channels'):
        batchnorm_to_groupnorm(mlp(8, 32, 4), 5)


def test_an_average_stays_without_gradient_when_its_layers_are_replaced():
    average = batchnorm_to_groupnorm(EMA(mlp(8, 32, 4)), 4)
    assert not [p for p in average.parameters() if p.requires_grad]


def test_split_batchnorm_keeps_channels_last_and_queues_take_float64():
    x = torch.randn(4, 3, 5, 5).contiguous(memory_format=torch.channels_last)
    assert split_batchnorm(nn.Sequential(nn.BatchNorm2d(3)), 2)(x).is_contiguous(
        memory_format=torch.channels_last
    )
    for layer, value in (
        (Queue(4, 2), torch.ones(2, 2)),
        (MovingAverage(2, decay=0.9), torch.ones(2)),
    ):
        layer.double().add(value.double())
        layer.update()
        assert {buffer.dtype for buffer in layer.buffers() if buffer.is_floating_point()} == {
            torch.float64
        }


def test_multi_crop_forwards_views_of_a_size_together_and_keeps_their_order():
    seen = []

    def network(x):
        seen.append(tuple(x.shape))
        return x.mean((2, 3))

    views = [torch.full((2, 3, size, size), float(i)) for i, size in enumerate((8, 8, 4, 4, 4))]
    out = multi_crop(network, views)
    assert seen == [(4, 3, 8, 8), (6, 3, 4, 4)]
    assert out[:, 0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
