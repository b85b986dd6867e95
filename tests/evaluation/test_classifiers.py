"""Classifiers on features and images: heads, frozen and trained parts, stops, predictions."""

import copy
import os
import resource
import signal
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from ssl_zoo.data.sources import Source
from ssl_zoo.data.stream_sampler import order_of
from ssl_zoo.distributed.signals import StopSignals
from ssl_zoo.errors import ConfigError, Stopped, UnreadableImage
from ssl_zoo.evaluation import classifier_training
from ssl_zoo.evaluation.classifier_training import train_classifier
from ssl_zoo.evaluation.classifiers import Classifier, Heads, predict, predict_features
from ssl_zoo.evaluation.features import Features, Preprocessing
from ssl_zoo.evaluation.labelled_batches import FeatureBatches, ImageBatches
from ssl_zoo.evaluation.recipes import Recipe, Setting

CPU = torch.device('cpu')
SMALL = Preprocessing(4, 4, (0.0,) * 3, (1.0,) * 3)
PLAIN = dict(epochs=(3.5,), batch_size=16, per_256=False, momentum=0.9)


class Colours(Source):
    """Images of one colour each, red = their position; some cannot be read."""

    def __init__(self, n, labels=None, broken=(), classes=3):
        self.n, self.broken = n, set(broken)
        self.labels = np.arange(n) % classes if labels is None else np.asarray(labels)

    def __len__(self):
        return self.n

    def read(self, i):
        if i in self.broken:
            raise UnreadableImage('cut short')
        return Image.new('RGB', (8, 8), (i, (37 * i) % 256, (91 * i + 5) % 256))

    def name(self, i):
        return f'colour {i}'


class Noise(Colours):
    """Images of noise around a colour."""

    def read(self, i):
        pixels = np.random.default_rng(i).integers(0, 120, (8, 8, 3)) + 60 * (i % 3)
        return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


class Hooked:
    """Batches that do something before batch ``at``; ``starts``: where each training began."""

    def __init__(self, batches, at=None, act=None):
        self.batches, self.at, self.act, self.starts = batches, at, act, []
        self.unreadable = batches.unreadable

    def __len__(self):
        return len(self.batches)

    def steps(self, size, start, stop):
        self.starts.append(start)
        for k, batch in enumerate(self.batches.steps(size, start, stop), start):
            if k == self.at:
                self.act()
            yield batch


def some_features(n=100, dim=6, classes=4, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    values = rng.normal(size=(n, dim)) + rng.normal(size=(classes, dim))[labels]
    return Features(values.astype(np.float32), labels, np.arange(n))


def encoder(dropout=0.0):
    torch.manual_seed(5)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )


def on_features(features, recipe, settings, classes=4, seed=3, state=None, batches=None):
    heads = Heads(features.values.shape[1], classes, len(settings), recipe.init, seed)
    network = Classifier(None, heads, True, SMALL)
    train_classifier(
        network, batches or FeatureBatches(features, seed, CPU), recipe, settings, seed, state
    )
    return heads


def on_images(recipe, frozen, settings=None, dropout=0.0, state=None, hook=None, seed=3, n=40):
    settings = settings or recipe.settings(n)
    network = Classifier(
        encoder(dropout), Heads(8, 3, len(settings), recipe.init, seed), frozen, SMALL
    )
    batches = ImageBatches(Noise(n), recipe, SMALL, seed, 0, CPU)
    train_classifier(network, hook(batches) if hook else batches, recipe, settings, seed, state)
    return network


def numbers(heads, h=0):
    return heads.weight[h].detach().numpy(), heads.bias[h].detach().numpy()


def assert_alike(heads, h, other, atol=1e-6):
    for mine, theirs in zip(numbers(heads, h), numbers(other), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=atol, rtol=1e-5)


def same(a, b):
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


# --- What a head learns


def slow_training(x, y, w, b, lr_of, k_steps, size, seed, recipe, decay):
    """Softmax regression by SGD or LARC, float64, a loop over the batches."""
    x, n, classes = x.astype(np.float64), len(y), len(w)
    params = [w.astype(np.float64), b.astype(np.float64)]
    memory = [np.zeros_like(p) for p in params]
    stream = np.concatenate([order_of(e, n, seed) for e in range(k_steps * size // n + 1)])
    for k in range(k_steps):
        rows = stream[k * size : (k + 1) * size]
        logits = x[rows] @ params[0].T + params[1]
        p = np.exp(logits - logits.max(1, keepdims=True))
        error = (p / p.sum(1, keepdims=True) - np.eye(classes)[y[rows]]) / size
        for i, g in enumerate((error.T @ x[rows], error.sum(0))):
            norm, weight = np.sqrt((g**2).sum()), np.sqrt((params[i] ** 2).sum())
            g = g + decay * params[i]
            if recipe.optimizer == 'LARC' and norm > 0 and weight > 0:
                g = g * 0.001 * weight / (norm + decay * weight + 1e-8)
            memory[i] = recipe.momentum * memory[i] + g
            params[i] = params[i] - lr_of(k) * (
                g + recipe.momentum * memory[i] if recipe.nesterov else memory[i]
            )
    return params


# 100 images in batches of 16 for 3.5 epochs: 350 // 16 = 21 steps; step k begins after 16 k images.
SCHEDULES = {
    'cosine, nesterov': (
        dict(nesterov=True),
        0.0,
        lambda k: 0.3 * 0.5 * (1 + np.cos(np.pi * k / 21)),
    ),
    'cosine, plain momentum, decay': (
        dict(init='normal'),
        0.01,
        lambda k: 0.3 * 0.5 * (1 + np.cos(np.pi * k / 21)),
    ),
    'cosine to a share': (
        dict(end=0.2, init='zeros'),
        0.0,
        lambda k: 0.3 * (0.2 + 0.8 * 0.5 * (1 + np.cos(np.pi * k / 21))),
    ),
    'cosine per epoch': (
        dict(per_epoch=True, nesterov=True),
        0.1,
        lambda k: 0.3 * 0.5 * (1 + np.cos(np.pi * (16 * k // 100) / 3.5)),
    ),
    'steps': (
        dict(shape='steps', milestones=(0.5, 0.8)),
        0.0,
        lambda k: 0.3 * (1 if 16 * k < 175 else 0.1 if 16 * k < 280 else 0.01),
    ),
    'no momentum': (dict(momentum=0.0), 0.0, lambda k: 0.3 * 0.5 * (1 + np.cos(np.pi * k / 21))),
    'LARC': (dict(optimizer='LARC'), 0.05, lambda k: 30 * 0.5 * (1 + np.cos(np.pi * k / 21))),
}


@pytest.mark.parametrize('name', SCHEDULES)
def test_a_head_learns_what_a_slow_loop_in_float64_learns(name):
    changes, decay, lr_of = SCHEDULES[name]
    recipe = Recipe(lrs=(lr_of(0),), **{**PLAIN, **changes})
    features, setting = some_features(), Setting(lr_of(0), decay, 3.5)
    start = numbers(Heads(6, 4, 1, recipe.init, 3))
    expected = slow_training(
        features.values, features.labels, *start, lr_of, 21, 16, 3, recipe, decay
    )
    for got, right in zip(numbers(on_features(features, recipe, [setting])), expected, strict=True):
        np.testing.assert_allclose(got, right, atol=1e-5, rtol=1e-5)
    assert np.abs(expected[0] - start[0]).max() > 1e-2  # it did learn


@pytest.mark.parametrize(
    ('changes', 'lrs', 'decays'),
    [
        (dict(nesterov=True), (0.5, 0.1, 0.02), (0.0,)),
        (dict(init='normal'), (0.5, 0.1), (0.0, 0.1, 1.0)),
        (dict(optimizer='LARC'), (30.0, 3.0), (0.0, 0.1)),
    ],
)
def test_heads_side_by_side_learn_what_each_learns_alone(changes, lrs, decays):
    recipe = Recipe(lrs=lrs, weight_decays=decays, **{**PLAIN, **changes})
    features, settings = some_features(), recipe.settings(100)
    together = on_features(features, recipe, settings)
    for i, setting in enumerate(settings):
        assert_alike(together, i, on_features(features, recipe, [setting]))
        assert all(
            (together.weight[i] - other).abs().max() > 1e-3 for other in together.weight[:i]
        )  # and no two are alike


def test_heads_on_images_side_by_side_learn_what_each_learns_alone():
    recipe = Recipe(lrs=(1.0, 0.1), epochs=(2,), batch_size=8, per_256=False)
    together = on_images(recipe, frozen=True).heads
    for i, setting in enumerate(recipe.settings(40)):
        assert_alike(together, i, on_images(recipe, frozen=True, settings=[setting]).heads)


def test_a_head_that_diverges_leaves_the_others_alone():
    recipe = Recipe(lrs=(0.5, 1e38, 0.1), **PLAIN)
    features, settings = some_features(), recipe.settings(100)
    together = on_features(features, recipe, settings)
    assert not together.weight[1].isfinite().any()
    for i in (0, 2):
        assert_alike(together, i, on_features(features, recipe, [settings[i]]))
    best = predict_features(together, features)
    assert (best[:, 1] == -1).all() and (np.sort(best[:, [0, 2]]) == np.arange(4)).all()


def test_when_all_diverge_it_is_said():
    recipe = Recipe(lrs=(1e38, 2e38), **PLAIN)
    before = [signal.getsignal(s) for s in StopSignals.CAUGHT]
    with pytest.raises(
        FloatingPointError,
        match='the loss of every setting is not finite at step 20; lower the learning rates',
    ):
        on_features(some_features(), recipe, recipe.settings(100))
    with pytest.raises(FloatingPointError, match='at step 3;'):  # and so at the last step
        on_features(
            some_features(),
            replace(recipe, epochs=(0.5,)),
            replace(recipe, epochs=(0.5,)).settings(100),
        )
    assert [signal.getsignal(s) for s in StopSignals.CAUGHT] == before


def test_the_bar_shows_the_best_loss_that_is_finite(capsys):
    recipe = Recipe(lrs=(0.5, 1e38), **PLAIN)
    on_features(some_features(), recipe, recipe.settings(100))
    assert 'loss=' in (shown := capsys.readouterr().err) and 'loss=nan' not in shown


def test_settings_with_other_numbers_of_epochs_are_not_trained_side_by_side():
    recipe = Recipe(lrs=(0.1,), epochs=(1, 2), batch_size=16)
    with pytest.raises((ConfigError, ValueError), match='epochs'):
        on_features(some_features(), recipe, recipe.settings(100))


def test_with_fewer_images_than_a_batch_all_of_them_are_one():
    sizes = []

    class Watched(FeatureBatches):
        def steps(self, *arguments):
            for x, labels in super().steps(*arguments):
                sizes.append(len(x))
                yield x, labels

    features = some_features(10)
    recipe = Recipe(lrs=(0.1,), epochs=(2.5,), batch_size=1024)
    on_features(features, recipe, recipe.settings(10), batches=Watched(features, 0, CPU))
    assert sizes == [10, 10]  # 25 // 10 steps


def test_training_leaves_the_network_in_eval_mode():
    assert not any(
        m.training
        for m in on_images(Recipe(lrs=(0.1,), epochs=(0.5,), batch_size=8), frozen=False).modules()
    )


# --- Batches


def test_features_and_images_come_in_the_same_order():
    n, recipe = 23, Recipe(lrs=(0.1,), epochs=(1,), batch_size=5, crop=(0.3, 1.0))
    images = ImageBatches(Colours(n, labels=np.arange(n)), recipe, SMALL, 7, 0, CPU)
    rows = Features(np.arange(n, dtype=np.float16)[:, None], np.arange(n), np.arange(n))
    features = FeatureBatches(rows, 7, CPU)
    assert len(images) == len(features) == n
    seen = []
    for (x, a), (f, b) in zip(images.steps(5, 2, 14), features.steps(5, 2, 14), strict=True):
        assert torch.equal(a, b) and a.dtype == b.dtype == torch.int64
        assert f.dtype == torch.float32 and torch.equal(f[:, 0].long(), a)
        assert x.shape == (5, 3, 4, 4) and torch.equal(
            (x[:, 0].amax((1, 2)) * 255).round().long(), a
        )  # red is the position
        seen += a.tolist()
    stream = np.concatenate([order_of(epoch, n, 7) for epoch in range(4)])
    assert seen == stream[10:70].tolist() and sorted(stream[23:46]) == list(range(23))


def test_batches_of_images_are_the_same_wherever_they_start_and_whatever_the_workers():
    recipe = Recipe(lrs=(0.1,), epochs=(1,), batch_size=8)

    def batches(workers, start, seed=1, **changes):
        return [
            x
            for x, _ in ImageBatches(
                Noise(20), replace(recipe, **changes), SMALL, seed, workers, CPU
            ).steps(8, start, 5)
        ]

    whole = batches(0, 0)
    assert all(torch.equal(a, b) for a, b in zip(whole[3:], batches(0, 3), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(whole[3:], batches(2, 3), strict=True))
    for other in (
        dict(seed=2),
        dict(flip_p=1.0),
        dict(crop=(0.9, 1.0)),
        dict(interpolation='bilinear'),
    ):
        assert not torch.equal(whole[0], batches(0, 0, **other)[0])


def test_images_that_cannot_be_read_are_replaced_and_counted():
    recipe = Recipe(lrs=(0.1,), epochs=(2,), batch_size=5)
    batches = ImageBatches(
        Colours(20, labels=np.arange(20), broken=(3, 11)), recipe, SMALL, 0, 0, CPU
    )
    network = Classifier(encoder(), Heads(8, 20, 1, 'torch', 0), True, SMALL)
    train_classifier(network, batches, recipe, recipe.settings(20), 0)
    assert batches.unreadable == {3: 'cut short', 11: 'cut short'}
    for x, labels in batches.steps(5, 0, 8):
        assert not {3, 11} & set(labels.tolist())
        assert torch.equal(
            (x[:, 0].amax((1, 2)) * 255).round().long(), labels
        )  # the label of the image in its place


def test_when_no_image_can_be_read_it_is_said():
    recipe = Recipe(lrs=(0.1,), epochs=(1,), batch_size=5)
    batches = ImageBatches(Colours(6, broken=range(6)), recipe, SMALL, 0, 0, CPU)
    network = Classifier(encoder(), Heads(8, 3, 1, 'torch', 0), True, SMALL)
    with pytest.raises(
        ConfigError, match=r'6 images in a row cannot be read, the first is colour \d \(cut short\)'
    ):
        train_classifier(network, batches, recipe, recipe.settings(6), 0)
    with pytest.raises(
        ConfigError, match=r'none of the 6 images can be read, the first is colour 0 \(cut short\)'
    ):
        predict(network, Colours(6, broken=range(6)), SMALL)


# --- Frozen and trained encoders


def test_a_frozen_encoder_does_not_change_by_a_bit():
    recipe = Recipe(lrs=(1.0, 0.1), epochs=(3,), batch_size=8, per_256=False, weight_decays=(0.1,))
    network = Classifier(encoder(dropout=0.5), Heads(8, 3, 2, 'torch', 0), True, SMALL)
    seen = []
    network.encoder.register_forward_hook(
        lambda module, args, out: seen.append(
            (module.training, torch.is_grad_enabled(), out.requires_grad)
        )
    )
    network.train()
    assert network.heads.training and not any(m.training for m in network.encoder.modules())
    train_classifier(
        network, ImageBatches(Noise(40), recipe, SMALL, 0, 0, CPU), recipe, recipe.settings(40), 0
    )
    assert (
        same(network.encoder, encoder(dropout=0.5)) and network.encoder[1].num_batches_tracked == 0
    )
    assert all(p.grad is None for p in network.encoder.parameters())
    assert len(seen) == 15 and set(seen) == {(False, False, False)}
    assert not same(network.heads, Heads(8, 3, 2, 'torch', 0))


def test_fine_tuning_changes_weights_and_statistics():
    recipe = Recipe(lrs=(0.1,), epochs=(0.2,), batch_size=8, per_256=False)  # one step
    inputs = []
    network = Classifier(encoder(), Heads(8, 3, 1, 'torch', 0), False, SMALL)
    network.encoder[1].register_forward_hook(
        lambda module, args, out: inputs.append((args[0].detach(), module.training))
    )
    train_classifier(
        network, ImageBatches(Noise(40), recipe, SMALL, 0, 0, CPU), recipe, recipe.settings(40), 0
    )
    [(x, training_mode)] = inputs
    norm = network.encoder[1]
    assert training_mode and norm.num_batches_tracked == 1
    torch.testing.assert_close(norm.running_mean, 0.1 * x.mean((0, 2, 3)))
    torch.testing.assert_close(norm.running_var, 0.9 + 0.1 * x.var((0, 2, 3)))
    before = dict(encoder().named_parameters())
    assert all(
        not torch.equal(p, before[name])
        for name, p in network.encoder.named_parameters()
        if name != '0.bias'
    )


@pytest.mark.parametrize('nesterov', [False, True])
def test_a_step_of_fine_tuning_in_closed_form(nesterov):
    # One learning rate for encoder and head; weight decay leaves norms and biases out.
    lr, decay, ahead = 0.2, 0.5, 1.9 if nesterov else 1.0  # with an empty buffer, g + 0.9 g
    recipe = Recipe(lrs=(lr,), epochs=(0.2,), batch_size=8, per_256=False, nesterov=nesterov)
    batches = ImageBatches(Noise(40), recipe, SMALL, 0, 0, CPU)
    [(x, labels)] = batches.steps(8, 0, 1)
    network = Classifier(encoder(), Heads(8, 3, 1, 'torch', 0), False, SMALL)
    nn.init.uniform_(network.encoder[1].bias)
    start = {name: p.detach().clone() for name, p in network.named_parameters()}
    twin = copy.deepcopy(network)
    F.cross_entropy(
        F.linear(twin.encoder(x), twin.heads.weight[0], twin.heads.bias[0]), labels
    ).backward()
    gradients = {name: p.grad for name, p in twin.named_parameters()}
    train_classifier(network, batches, recipe, [Setting(lr, decay, 0.2)], 0)
    for name, p in network.named_parameters():
        decays = name in ('encoder.0.weight', 'heads.weight')
        torch.testing.assert_close(
            p.detach(),
            start[name] - lr * ahead * (gradients[name] + decay * decays * start[name]),
            atol=1e-6,
            rtol=1e-5,
        )


def test_a_frozen_encoder_leaves_weight_decay_to_the_whole_head():
    heads = on_features(
        Features(np.zeros((8, 2), np.float32), np.arange(8) % 2, np.arange(8)),
        Recipe(lrs=(0.1,), epochs=(1,), batch_size=8),
        [Setting(0.1, 0.5, 1)],
        classes=2,
    )
    weight, bias = numbers(Heads(2, 2, 1, 'torch', 3))
    np.testing.assert_allclose(
        numbers(heads)[0], 0.95 * weight, rtol=1e-6
    )  # no gradient but that of the decay
    error = np.exp(bias) / np.exp(bias).sum() - 0.5
    np.testing.assert_allclose(numbers(heads)[1], bias - 0.1 * (error + 0.5 * bias), rtol=1e-5)


def test_every_step_and_every_seed_has_dropout_of_its_own():
    class Ones(nn.Module):
        def forward(self, x):
            return torch.ones_like(x)

    def masks(seed):
        network, seen = (
            Classifier(
                nn.Sequential(nn.Flatten(), Ones(), nn.Dropout(0.5)),
                Heads(48, 3, 1, 'torch', 0),
                False,
                SMALL,
            ),
            [],
        )
        network.encoder.register_forward_hook(lambda module, args, out: seen.append(out != 0))
        recipe = Recipe(lrs=(1e-9,), epochs=(3,), batch_size=20)
        train_classifier(
            network,
            ImageBatches(Noise(20), recipe, SMALL, 0, 0, CPU),
            recipe,
            recipe.settings(20),
            seed,
        )
        return seen

    a, b = masks(1), masks(2)
    assert [torch.equal(x, y) for x, y in zip(a, masks(1), strict=True)] == [True] * 3
    assert (
        not torch.equal(a[0], a[1]) and not torch.equal(a[1], a[2]) and not torch.equal(a[0], b[0])
    )


def test_gradients_left_over_from_before_do_not_count():
    recipe, networks = Recipe(lrs=(0.1,), epochs=(0.2,), batch_size=8, per_256=False), []
    for left_over in (False, True):
        networks.append(Classifier(encoder(), Heads(8, 3, 1, 'torch', 0), False, SMALL))
        if left_over:
            for p in networks[-1].parameters():
                p.grad = torch.ones_like(p)
        train_classifier(
            networks[-1],
            ImageBatches(Noise(40), recipe, SMALL, 0, 0, CPU),
            recipe,
            recipe.settings(40),
            0,
        )
    assert same(*networks)


def test_fine_tuning_learns():
    network = on_images(
        Recipe(lrs=(0.05,), epochs=(20,), batch_size=8, per_256=False), frozen=False
    )
    positions, classes, _ = predict(network, Noise(40), SMALL)
    assert (classes[:, 0, 0] == positions % 3).mean() > 0.9


def test_bf16_is_for_the_encoder_and_logits_are_float32():
    half = replace(SMALL, precision='bf16')
    network = Classifier(encoder(), Heads(8, 3, 2, 'torch', 0), True, half)
    outs = []
    network.encoder[0].register_forward_hook(lambda module, args, out: outs.append(out.dtype))
    network.heads.register_forward_pre_hook(lambda module, args: outs.append(args[0].dtype))
    logits = network(torch.rand(2, 3, 4, 4))
    assert (
        logits.shape == (2, 2, 3)
        and logits.dtype == torch.float32
        and outs == [torch.bfloat16, torch.float32]
    )


# --- Stops

KINDS = {
    'frozen heads on images': (
        True,
        dict(lrs=(1.0, 0.1), weight_decays=(0.0, 0.1), nesterov=True),
        0.0,
    ),
    'LARC': (True, dict(lrs=(30.0, 3.0), optimizer='LARC'), 0.0),
    'fine-tuning with dropout': (False, dict(lrs=(0.1,), weight_decays=(0.01,)), 0.5),
}


@pytest.mark.parametrize('how', ['signal', 'crash'])
@pytest.mark.parametrize('kind', [*KINDS, 'features'])
def test_a_stopped_training_goes_on_as_if_it_had_not_been_stopped(kind, how, tmp_path, monkeypatch):
    frozen, changes, dropout = KINDS.get(kind, (True, dict(lrs=(1.0, 0.1)), 0.0))
    recipe, state, made = (
        Recipe(**{**dict(epochs=(3,), batch_size=9, per_256=False), **changes}),
        tmp_path / 'deep' / 'state.pth',
        [],
    )

    def hooked(at=None, act=None):
        def hook(batches):
            made.append(Hooked(batches, at, act))
            return made[-1]

        return hook

    def go(hook, state=None):
        if kind == 'features':
            features = some_features(40)
            return on_features(
                features,
                recipe,
                recipe.settings(40),
                state=state,
                batches=hook(FeatureBatches(features, 3, CPU)),
            )
        return on_images(recipe, frozen, dropout=dropout, state=state, hook=hook)

    once = go(hooked())
    if how == 'signal':
        with pytest.raises(Stopped) as stopped:
            go(hooked(6, lambda: os.kill(os.getpid(), signal.SIGTERM)), state)
        assert (
            stopped.value.exit_code == 143
            and str(stopped.value) == 'stopped by SIGTERM after step 7'
        )
    else:

        def power_cut():
            raise RuntimeError('power cut')

        with monkeypatch.context() as patch, pytest.raises(RuntimeError, match='power cut'):
            patch.setattr(classifier_training, 'SAVE_SECONDS', -1)
            go(hooked(7, power_cut), state)
    assert torch.serialization.get_unsafe_globals_in_checkpoint(state) == []
    assert torch.load(state, weights_only=True)['step'] == 7
    again = go(hooked(), state)
    assert [h.starts for h in made] == [[0], [0], [7]]
    assert same(once, again) and not list(state.parent.iterdir())


def test_a_training_stopped_twice_and_one_stopped_at_its_last_step_go_on(tmp_path):
    recipe, state = Recipe(lrs=(0.1,), epochs=(1,), batch_size=8), tmp_path / 'state.pth'
    once = on_images(recipe, frozen=True)
    for at in (1, 2, 4):  # of 5 steps
        with pytest.raises(Stopped):
            on_images(
                recipe,
                True,
                state=state,
                hook=lambda batches, at=at: Hooked(
                    batches, at, lambda: os.kill(os.getpid(), signal.SIGUSR1)
                ),
            )
    assert torch.load(state, weights_only=True)['step'] == 5
    assert same(on_images(recipe, True, state=state), once) and not state.exists()


def test_the_state_is_saved_now_and_then(tmp_path, monkeypatch):
    seconds = iter(range(0, 10_000, 100))
    monkeypatch.setattr(
        classifier_training, 'time', SimpleNamespace(perf_counter=lambda: next(seconds))
    )
    recipe, state, features = (
        Recipe(lrs=(0.1,), epochs=(5,), batch_size=10),
        tmp_path / 'state.pth',
        some_features(),
    )
    saved = []

    def look():
        saved.append(torch.load(state, weights_only=True)['step'] if state.exists() else None)

    class Looked(FeatureBatches):
        def steps(self, *arguments):
            for batch in super().steps(*arguments):
                look()
                yield batch

    on_features(
        features, recipe, recipe.settings(100), state=state, batches=Looked(features, 0, CPU)
    )
    assert (
        saved[:14] == [None] * 4 + [4] * 4 + [8] * 4 + [12] * 2
    )  # more than 300 seconds after the last


@pytest.mark.parametrize(
    ('sent', 'code'), [(signal.SIGTERM, 143), (signal.SIGUSR1, 138), (signal.SIGINT, 130)]
)
def test_stopped_names_the_signal_and_gives_the_signals_back(sent, code, tmp_path, capsys):
    recipe, mine = Recipe(lrs=(0.1,), epochs=(1,), batch_size=10), lambda *_: None
    before = {s: signal.signal(s, mine) for s in StopSignals.CAUGHT}
    try:
        features = some_features()
        kill = Hooked(FeatureBatches(features, 0, CPU), 4, lambda: os.kill(os.getpid(), sent))
        with pytest.raises(
            Stopped, match=f'stopped by {sent.name} after step 5, which could not be saved'
        ) as stopped:
            on_features(features, recipe, recipe.settings(100), batches=kill)
        assert stopped.value.exit_code == code
        assert f'{sent.name}: finishing this step and saving' in ''.join(capsys.readouterr())
        assert all(signal.getsignal(s) is mine for s in StopSignals.CAUGHT)
        on_features(features, recipe, recipe.settings(100))
        assert all(signal.getsignal(s) is mine for s in StopSignals.CAUGHT)
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)


def test_a_second_ctrl_c_stops_at_once():
    def twice():
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)

    before = [signal.getsignal(s) for s in StopSignals.CAUGHT]
    features, recipe = some_features(), Recipe(lrs=(0.1,), epochs=(1,), batch_size=10)
    with pytest.raises(KeyboardInterrupt):
        on_features(
            features,
            recipe,
            recipe.settings(100),
            batches=Hooked(FeatureBatches(features, 0, CPU), 2, twice),
        )
    assert [signal.getsignal(s) for s in StopSignals.CAUGHT] == before


def test_a_disk_that_is_full_gets_a_sentence(tmp_path):
    features, recipe = some_features(dim=5000), Recipe(lrs=(0.1, 0.2), epochs=(1,), batch_size=10)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    kill = Hooked(FeatureBatches(features, 0, CPU), 4, lambda: os.kill(os.getpid(), signal.SIGTERM))
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(ConfigError, match='could not write .*state.pth.* free some space'):
            on_features(
                features, recipe, recipe.settings(100), state=tmp_path / 'state.pth', batches=kill
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    'content', [b'', b'not a state', dict(step=3), dict(step=1, network={}, optimizer={})]
)
def test_a_state_that_cannot_be_used_gets_a_sentence(content, tmp_path):
    state, recipe = tmp_path / 'state.pth', Recipe(lrs=(0.1,), epochs=(1,), batch_size=10)
    if isinstance(content, bytes):
        state.write_bytes(content)
    else:
        torch.save(content, state)
    with pytest.raises(ConfigError, match='state.pth'):
        on_features(some_features(), recipe, recipe.settings(100), state=state)


def test_a_hostile_state_runs_nothing(tmp_path):
    class Hostile:
        def __reduce__(self):
            return open, (str(tmp_path / 'executed'), 'w')

    torch.save(dict(step=Hostile()), tmp_path / 'state.pth')
    recipe = Recipe(lrs=(0.1,), epochs=(1,), batch_size=10)
    with pytest.raises(Exception, match='(?i)weights|state.pth'):
        on_features(some_features(), recipe, recipe.settings(100), state=tmp_path / 'state.pth')
    assert not (tmp_path / 'executed').exists()


# --- Starts


def test_starts_have_the_distributions_they_are_named_for():
    w, b = (
        {
            init: numbers(Heads(400, 100, 2, init, 0))[k]
            for init in ('zeros', 'normal', 'haiku', 'torch')
        }
        for k in (0, 1)
    )
    assert not w['zeros'].any()
    assert w['normal'].std() == pytest.approx(0.01, rel=0.02) and np.abs(w['normal']).max() > 0.03
    assert (
        w['haiku'].std() == pytest.approx(0.05 * 0.8796, rel=0.02)
        and 0.099 < np.abs(w['haiku']).max() <= 0.1
    )  # cut at 2 sigma
    assert (
        w['torch'].std() == pytest.approx(0.05 / 3**0.5, rel=0.02)
        and 0.0499 < np.abs(w['torch']).max() <= 0.05
    )
    assert all(abs(x.mean()) < 5e-4 for x in w.values())
    assert not any(b[init].any() for init in ('zeros', 'normal', 'haiku'))
    assert 0.02 < b['torch'].std() < 0.04 and np.abs(b['torch']).max() <= 0.05


@pytest.mark.parametrize('init', ['normal', 'haiku', 'torch'])
def test_all_heads_start_alike_from_the_seed_alone(init):
    a, b, other = Heads(5, 3, 3, init, 1), Heads(5, 3, 1, init, 1), Heads(5, 3, 1, init, 2)
    assert all(
        torch.equal(a.weight[h], b.weight[0]) and torch.equal(a.bias[h], b.bias[0])
        for h in range(3)
    )
    assert not torch.equal(b.weight, other.weight)
    with torch.no_grad():
        a.weight[0] += 1
    assert torch.equal(a.weight[1], b.weight[0])  # each has parameters of its own


def test_heads_are_linear_maps_side_by_side():
    heads = Heads(5, 3, 4, 'torch', 0)
    nn.init.normal_(heads.weight)
    nn.init.normal_(heads.bias)
    x = torch.randn(7, 5)
    out = heads(x)
    assert out.shape == (7, 4, 3)
    for h in range(4):
        torch.testing.assert_close(out[:, h], x @ heads.weight[h].T + heads.bias[h])


# --- Predictions


class Mean(nn.Module):
    """An image -> its mean colour."""

    def forward(self, x):
        return x.mean((2, 3))


def colour_network(classes, heads=2):
    network = Classifier(Mean(), Heads(3, classes, heads, 'torch', 0), True, SMALL)
    nn.init.normal_(network.heads.weight)
    return network


@pytest.mark.parametrize(
    ('classes', 'top', 'columns'), [(7, 5, 5), (7, 1, 1), (3, 5, 3), (1, 5, 1), (5, 5, 5)]
)
@pytest.mark.parametrize('batch_size', [4, 256])
def test_predictions_are_the_best_classes_best_first(classes, top, columns, batch_size):
    network, source = colour_network(classes), Colours(21, broken=(0, 8, 9, 10, 11, 20))
    positions, predicted, unreadable = predict(network, source, SMALL, batch_size, top=top)
    readable = [i for i in range(21) if i not in (0, 8, 9, 10, 11, 20)]
    assert positions.tolist() == readable and unreadable == [
        (i, 'cut short') for i in (0, 8, 9, 10, 11, 20)
    ]
    assert predicted.shape == (15, 2, columns) and predicted.dtype == np.int64
    colours = np.array([source.read(i).getpixel((0, 0)) for i in readable]) / 255
    for h in range(2):
        weight, bias = numbers(network.heads, h)
        logits = colours @ weight.astype(np.float64).T + bias
        assert predicted[:, h].tolist() == np.argsort(-logits, axis=1)[:, :columns].tolist()


def test_a_head_that_is_not_finite_names_no_class():
    network = colour_network(4, heads=3)
    with torch.no_grad():
        network.heads.weight[1, 2, 0] = float('nan')
        network.heads.bias[2, 3] = float('inf')
    _, predicted, _ = predict(network, Colours(6), SMALL)
    assert (predicted[:, 1:] == -1).all() and (predicted[:, 0] >= 0).all()


def test_predicting_leaves_the_network_as_it_was():
    network = Classifier(encoder(dropout=0.5), Heads(8, 3, 1, 'torch', 0), False, SMALL).train()
    network.encoder[3].eval()
    modes = [m.training for m in network.modules()]
    a, b = (predict(network, Noise(12), SMALL)[1] for _ in range(2))
    assert (
        (a == b).all()
        and [m.training for m in network.modules()] == modes
        and same(network.encoder, encoder())
    )


@pytest.mark.parametrize('dtype', [np.float32, np.float16])
@pytest.mark.parametrize('n', [1, 4096, 9000])
def test_predictions_from_features(n, dtype):
    heads = Heads(6, 7, 2, 'torch', 0)
    values = np.random.default_rng(0).normal(size=(n, 6)).astype(dtype)
    predicted = predict_features(heads, Features(values, None, np.arange(n)))
    assert predicted.shape == (n, 2, 5)
    for h in range(2):
        weight, bias = numbers(heads, h)
        logits = values.astype(np.float64) @ weight.astype(np.float64).T + bias
        assert (predicted[:, h] == np.argsort(-logits, axis=1)[:, :5]).mean() > 0.999
    assert (
        predict_features(heads, Features(values, None, np.arange(n)), top=1).tolist()
        == predicted[:, :, :1].tolist()
    )
