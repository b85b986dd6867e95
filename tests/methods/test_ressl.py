import math

import pytest
import torch
from torch import nn

from ssl_zoo.methods.ressl import ReSSL

pytestmark = pytest.mark.quick

BACKBONE = dict(name='resnet18', stem='cifar', width=0.125, layers=(1, 1, 1, 1))


def method(**arguments) -> ReSSL:
    ressl = ReSSL(
        BACKBONE, **{**dict(hidden_dim=32, proj_dim=8, queue_size=10, decay=0.9), **arguments}
    ).train()
    for p in ressl.teacher.parameters():
        p.data += 0.05 * torch.randn_like(p)  # as if training had moved the networks apart
    return ressl


def pair(n=6):
    return [torch.randn(n, 3, 16, 16), torch.randn(n, 3, 16, 16) * 2 + 1]


def cos(a, b):
    return a @ b / math.sqrt((a @ a) * (b @ b))


def softmax(x):
    return [math.exp(v) / sum(math.exp(w) for w in x) for v in x]


def oracle(q, k, queue, student, teacher):
    """Cross entropy of the student's similarities to the queue against the teacher's, by loops."""
    total = 0.0
    for i in range(len(q)):
        target = softmax([cos(k[i], old) / teacher for old in queue])
        relation = softmax([cos(q[i], old) / student for old in queue])
        total -= sum(t * math.log(r) for t, r in zip(target, relation, strict=True))
    return total / len(q)


def array(z):
    return z.detach().double().numpy()


def unit(z):
    return nn.functional.normalize(z, dim=1)


def keys_and_loss(ressl, views):
    """Keys of the weak view, dealt out as the loss will deal them, and the loss."""
    torch.manual_seed(3)
    order = torch.randperm(len(views[1]))
    keys = array(ressl.teacher(views[1][order]))[order.argsort().numpy()]
    torch.manual_seed(3)
    return keys, ressl.loss(views)['loss'].item()


@pytest.mark.parametrize('temperatures', [(0.1, 0.04), (0.2, 0.3), None])
def test_whole_loss_equals_a_slow_loop_in_float64(temperatures):
    arguments = (
        {}
        if temperatures is None
        else dict(zip(('student_temperature', 'teacher_temperature'), temperatures, strict=True))
    )
    ressl = method(**arguments)
    (strong, weak) = pair()
    q = array(ressl.student(strong))
    queue = array(ressl.queue.keys)
    k, loss = keys_and_loss(ressl, [strong, weak])
    # Without arguments, the temperatures are the paper's.
    assert loss == pytest.approx(oracle(q, k, queue, *(temperatures or (0.1, 0.04))), rel=1e-5)


def test_teacher_images_are_shuffled_between_the_parts_that_batchnorm_sees():
    ressl = method(bn_splits=3)
    views = pair(12)
    q = array(ressl.student(views[0]))
    queue = array(ressl.queue.keys)
    k, loss = keys_and_loss(ressl, views)
    assert loss == pytest.approx(oracle(q, k, queue, 0.1, 0.04), rel=1e-5)
    assert loss != pytest.approx(
        oracle(q, array(ressl.teacher(views[1])), queue, 0.1, 0.04), rel=1e-4
    )


def test_gradient_reaches_the_student_alone():
    ressl = method()
    ressl.loss(pair())['loss'].backward()
    for name, p in ressl.named_parameters():
        assert (p.grad is None) if name.startswith('teacher') else p.grad.isfinite().all(), name
    assert (
        ressl.student.backbone.conv1.weight.grad.abs().max() > 0
        and not ressl.queue.keys.requires_grad
    )


def test_queue_takes_the_teachers_vectors_after_the_step_and_wraps_around():
    ressl = method()
    views = pair()
    start = ressl.queue.keys.clone()
    first = unit(ressl.teacher(views[1]))
    ressl.loss(views)
    assert torch.equal(ressl.queue.keys, start)  # a step does not meet its own images
    ressl.after_step()
    torch.testing.assert_close(ressl.queue.keys, torch.cat([first, start[6:]]))
    second = unit(ressl.teacher(views[1]))  # the teacher has moved
    ressl.loss(views)
    ressl.after_step()
    torch.testing.assert_close(ressl.queue.keys, torch.cat([second[4:], first[2:], second[:4]]))


@pytest.mark.parametrize('progress', [0.0, 0.7])
def test_teacher_follows_the_new_weights_with_a_constant_decay(progress):
    ressl = method()
    ressl.progress = progress
    before = [p.clone() for p in ressl.teacher.parameters()]
    optimizer = torch.optim.SGD([p for p in ressl.parameters() if p.requires_grad], lr=0.1)
    ressl.loss(pair())['loss'].backward()
    optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(before, ressl.teacher.parameters(), strict=True))
    ressl.after_step()
    for old, now, student in zip(
        before, ressl.teacher.parameters(), ressl.student.parameters(), strict=True
    ):
        torch.testing.assert_close(now, 0.9 * old + 0.1 * student)


def test_sizes_of_the_official_code():
    with torch.device('meta'):
        ressl = ReSSL(dict(name='resnet50'))
    # The head has no BatchNorm.
    assert [type(m).__name__ for m in ressl.student.projector] == [
        'Linear',
        'ReLU',
        'Linear',
    ]
    assert [tuple(m.weight.shape) for m in ressl.student.projector[::2]] == [
        (4096, 2048),
        (512, 4096),
    ]
    assert tuple(ressl.queue.keys.shape) == (131072, 512) and ressl.decay == 0.999
    copy = ReSSL(BACKBONE, queue_size=4)
    assert all(
        torch.equal(a, b)
        for a, b in zip(copy.student.parameters(), copy.teacher.parameters(), strict=True)
    )
