import math

import numpy as np
import pytest
import torch

from ssl_zoo.methods.dino import DINO

pytestmark = pytest.mark.quick

BACKBONE = dict(name='resnet18', stem='cifar', width=0.125, layers=(1, 1, 1, 1))


def method(**arguments) -> DINO:
    dino = DINO(
        BACKBONE,
        **{**dict(hidden_dim=16, bottleneck_dim=8, prototypes=5, base_ema=0.9), **arguments},
    ).train()
    for layer in (*dino.student.head[::2], *dino.teacher.network.head[::2]):
        # As if training had moved the networks apart.
        layer.weight.data += 0.3 * torch.randn_like(layer.weight)
    dino.teacher.network.last.weight.data += 0.5 * torch.randn(5, 8)
    for gain in (dino.student.last_gain, dino.teacher.network.last_gain):
        if gain is not None:
            gain.data += 0.5 * torch.rand(5, 1)
    return dino


def crops(*sizes):
    return [torch.randn(6, 3, size, size) * (i + 1) for i, size in enumerate(sizes)]


def softmax(x):
    return [math.exp(v) / sum(math.exp(w) for w in x) for v in x]


def scores(network, views, large=2):
    """(views, B, K) cosines times gains; views of one size share a pass through the backbone."""
    runs = [views[:large], views[large:]] if views[large:] else [views]
    z = (
        network.head(torch.cat([network.backbone(torch.cat(run)) for run in runs]))
        .detach()
        .double()
        .numpy()
    )
    rows = network.last.weight.detach().double().numpy()
    gains = [1.0] * len(rows) if network.last_gain is None else network.last_gain.flatten().tolist()
    out = [
        [gain * (a @ c) / math.sqrt((a @ a) * (c @ c)) for c, gain in zip(rows, gains, strict=True)]
        for a in z
    ]
    return np.array(out).reshape(len(views), -1, len(rows))


def oracle(student, teacher, center, tau_s, tau_t):
    """Mean over pairs of a teacher's view and another view of the student; images one by one."""
    terms = []
    for t in range(2):
        for s in range(len(student)):
            if s != t:
                for a, b in zip(teacher[t], student[s], strict=True):
                    target = softmax((a - center) / tau_t)
                    guess = softmax(b / tau_s)
                    terms.append(-sum(p * math.log(q) for p, q in zip(target, guess, strict=True)))
    return sum(terms) / len(terms)


@pytest.mark.parametrize('sizes', [(20, 20), (20, 20, 12, 12)])
@pytest.mark.parametrize(
    ('temperatures', 'norm_last_layer'),
    [((0.1, 0.04), True), ((0.3, 0.2), True), ((0.3, 0.2), False)],
)
def test_whole_loss_equals_a_slow_loop_in_float64(sizes, temperatures, norm_last_layer):
    arguments = dict(zip(('student_temperature', 'teacher_temperature'), temperatures, strict=True))
    dino = method(norm_last_layer=norm_last_layer, **arguments)
    views = crops(*sizes)
    dino.center.value.copy_(0.2 * torch.randn(5))
    student = scores(dino.student, views)
    teacher = scores(dino.teacher.network, views[:2])
    expected = oracle(student, teacher, dino.center.value.double().numpy(), *temperatures)
    assert dino.loss(views)['loss'].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize('norm_last_layer', [True, False])
def test_gradient_reaches_the_student_alone(norm_last_layer):
    dino = method(norm_last_layer=norm_last_layer)
    dino.loss(crops(20, 20, 12))['loss'].backward()
    for name, p in dino.named_parameters():
        assert (p.grad is None) if name.startswith('teacher') else p.grad.isfinite().all(), name
    assert (
        dino.student.backbone.conv1.weight.grad.abs().max() > 0
        and dino.student.last.weight.grad.abs().max() > 0
    )
    assert not dino.center.value.requires_grad


def test_center_moves_after_the_step_by_the_mean_of_the_teachers_outputs():
    dino = method()
    views = crops(20, 20, 12)
    first = scores(dino.teacher.network, views[:2]).mean((0, 1))
    dino.loss(views)
    assert not dino.center.value.any()  # 0 at first, and in the first loss
    dino.after_step()
    np.testing.assert_allclose(dino.center.value.numpy(), 0.1 * first, rtol=1e-4, atol=1e-7)
    second = scores(dino.teacher.network, views[:2]).mean((0, 1))  # the teacher has moved
    dino.loss(views)
    dino.after_step()
    np.testing.assert_allclose(
        dino.center.value.numpy(), 0.9 * 0.1 * first + 0.1 * second, rtol=1e-4, atol=1e-7
    )


def test_only_after_step_moves_the_teacher_and_with_the_new_weights():
    dino = method()
    dino.progress = 0.5
    before = [p.clone() for p in dino.teacher.parameters()]
    optimizer = torch.optim.SGD([p for p in dino.parameters() if p.requires_grad], lr=0.1)
    dino.loss(crops(20, 20))['loss'].backward()
    optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(before, dino.teacher.parameters(), strict=True))
    dino.after_step()
    for old, now, student in zip(
        before, dino.teacher.parameters(), dino.student.parameters(), strict=True
    ):
        # The decay rises from 0.9 to 1 and is half way between at progress 0.5.
        torch.testing.assert_close(now, 0.95 * old + 0.05 * student)


def test_teacher_temperature_rises_by_epochs_as_in_the_official_code():
    dino = method(
        warmup_teacher_temperature=0.04, teacher_temperature=0.07, temperature_warmup_epochs=30
    )
    for epoch, index in (0.0, 0), (0.99, 0), (10.5, 10), (29.0, 29):
        dino.epoch = epoch
        assert dino.teacher_temperature == pytest.approx(
            np.linspace(0.04, 0.07, 30)[index], rel=1e-6
        )
    for epoch in (30.0, 30.5, 799.9):
        dino.epoch = epoch
        assert dino.teacher_temperature == pytest.approx(0.07)
    constant = method()
    assert constant.teacher_temperature == 0.04


def test_last_layer_of_the_student_rests_in_the_first_epoch():
    dino = method(norm_last_layer=False)
    for epoch, frozen in (0.0, True), (0.99, True), (1.0, False), (7.5, False):
        dino.epoch = epoch
        names = {name for name, _ in dino.named_parameters() if name.startswith(dino.frozen)}
        assert names == ({'student.last.weight', 'student.last_gain'} if frozen else set())


def test_teacher_starts_as_a_copy_without_stochastic_depth_and_is_evaluated():
    dino = DINO(dict(BACKBONE, drop_path_rate=0.5), hidden_dim=16, bottleneck_dim=8, prototypes=5)
    assert all(
        torch.equal(a, b)
        for a, b in zip(dino.student.parameters(), dino.teacher.parameters(), strict=True)
    )
    deep = [
        any(type(m).__name__ == 'DropPath' for m in network.modules())
        for network in (dino.student, dino.teacher)
    ]
    assert deep == [True, False]
    assert dino.backbone is dino.teacher.network.backbone


def test_sizes_of_the_official_code():
    with torch.device('meta'):
        dino = DINO(dict(name='resnet50'))
    assert [type(m).__name__ for m in dino.student.head] == [
        'Linear',
        'GELU',
        'Linear',
        'GELU',
        'Linear',
    ]
    assert [tuple(m.weight.shape) for m in dino.student.head[::2]] == [
        (2048, 2048),
        (2048, 2048),
        (256, 2048),
    ]
    assert (
        tuple(dino.student.last.weight.shape) == (65536, 256)
        and dino.student.last.bias is None
        and dino.student.last_gain is None
    )
    assert (
        dino.student_temperature,
        dino.teacher_temperature,
        dino.base_ema,
        dino.center.decay,
    ) == (0.1, 0.04, 0.996, 0.9)
