"""Transfer: regression and fine-tuning against slow oracles; budgets, choices, stops, rows."""

import copy
import functools
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets
import torch
import torch.nn.functional as F
from PIL import Image
from sklearn.linear_model import LogisticRegression
from torch import nn

from ssl_zoo.data.sources import Source
from ssl_zoo.data.sources.arrays import Digits
from ssl_zoo.errors import ConfigError, Stopped
from ssl_zoo.evaluation import logistic
from ssl_zoo.evaluation.labelled_batches import ImageBatches
from ssl_zoo.evaluation.predictions import Predictions
from ssl_zoo.evaluation.protocols import context as context_module
from ssl_zoo.evaluation.protocols import finetune as finetune_module
from ssl_zoo.evaluation.protocols import transfer as transfer_module
from ssl_zoo.evaluation.protocols.choice import Choice
from ssl_zoo.evaluation.protocols.context import EvaluationContext
from ssl_zoo.evaluation.protocols.describe import describe_row
from ssl_zoo.evaluation.protocols.transfer import bn_momentum, transfer_finetune, transfer_linear
from ssl_zoo.evaluation.recipes import TRANSFER, TRANSFER_STEPS

RECIPE = TRANSFER.with_changes(lrs=(0.01, 0.1), weight_decays=(0.0, 1e-3), batch_size=16)
ONE = RECIPE.with_changes(lrs=(0.05,), weight_decays=(1e-3,))
STRENGTHS = (1000.0, 10.0, 1.0)


@pytest.fixture(scope='module', autouse=True)
def _quick():
    """The digits are read once, and nothing waits for the disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            sklearn.datasets, 'load_digits', functools.cache(sklearn.datasets.load_digits)
        )
        patch.setattr(os, 'fsync', lambda _: None)
        yield


@pytest.fixture(scope='module')
def checkpoint(train_on_digits):
    """A run on digits of 8 px, which evaluation would resize to 12 px first."""
    return train_on_digits(eval_size=8, eval_resize=12)


@pytest.fixture
def networks(monkeypatch):
    """The networks that the test images are shown to."""
    shown, real = [], transfer_module.predict

    def predict(network, *rest):
        shown.append(network)
        return real(network, *rest)

    monkeypatch.setattr(transfer_module, 'predict', predict)
    return shown


def names(source) -> list[str]:
    return [source.name(i) for i in range(len(source))]


def folder(root: Path, classes=3, per_class=8, size=8, seed=0) -> dict:
    """The config of a folder of noise around a brightness for each class."""
    rng = np.random.default_rng(seed)
    for c in range(classes):
        (root / f'class_{c}').mkdir(parents=True)
        for i in range(per_class):
            pixels = rng.integers(0, 100, (size, size, 3)) + 50 * c
            Image.fromarray(pixels.astype(np.uint8)).save(root / f'class_{c}' / f'{i}.png')
    return dict(type='ImageFolder', root=str(root))


# --- Logistic regression


def slow_features(s: EvaluationContext, source: Source, resize: int) -> np.ndarray:
    rows = []
    for i in range(len(source)):
        image = source.read(i).resize((resize, resize), Image.Resampling.BICUBIC)
        edge = round((resize - 8) / 2)
        x = (
            torch.from_numpy(
                np.asarray(image.crop((edge, edge, edge + 8, edge + 8))).copy()
            ).permute(2, 0, 1)[None]
            / 255
        )
        with torch.no_grad():
            rows.append(s.encoder((x - 0.5) / 0.5)[0].double().numpy())
    return np.stack(rows)


@pytest.mark.parametrize('metric', ['top1', 'mean_per_class'])
def test_the_regression_equals_a_slow_one_chosen_on_the_hold_out_and_fitted_again_with_it(
    context, metric
):
    s = context()
    row = transfer_linear(s, metric, STRENGTHS)
    x, y = {}, {name: s.source(name).labels for name in ('train', 'val', 'test')}
    for name in y:
        x[name] = slow_features(
            s, s.source(name), 8
        )  # the short side is resized to the crop, not to 12
    assert not np.allclose(x['val'], slow_features(s, s.source('val'), 12), rtol=1e-2)

    def measure(predicted, labels):
        right = predicted == labels
        return 100 * (
            right.mean()
            if metric == 'top1'
            else np.mean([right[labels == c].mean() for c in np.unique(labels)])
        )

    fits = [
        LogisticRegression(C=1 / strength, max_iter=5000, tol=1e-6).fit(x['train'], y['train'])
        for strength in STRENGTHS
    ]
    scores = [measure(fit.predict(x['val']), y['val']) for fit in fits]
    assert len(set(scores)) > 1
    chosen = STRENGTHS[int(np.argmax(scores))]
    both, labels = np.concatenate([x['train'], x['val']]), np.concatenate([y['train'], y['val']])
    final = LogisticRegression(C=1 / chosen, max_iter=5000, tol=1e-6).fit(both, labels)
    kept = Predictions.load(row['predictions'])
    assert np.mean(kept.predicted[:, 0] == final.predict(x['test'])) >= 59 / 60
    assert (
        np.mean(kept.predicted[:, 0] == fits[int(np.argmax(scores))].predict(x['test'])) < 59 / 60
    )  # without the hold-out
    assert row['strength'] == chosen and row['value'] == pytest.approx(
        measure(kept.predicted[:, 0], y['test'])
    )
    assert row['metric'] == f'transfer_linear_{metric}' and kept.names.tolist() == names(
        s.source('test')
    )
    assert f'on 180 features without augmentation, L-BFGS, strength {chosen:.3g}' in describe_row(
        row
    )
    assert (
        f'chosen of 3 on 40 held-out images ({max(scores):.2f} %), fitted again with the hold-out'
        in describe_row(row)
    )


@pytest.mark.parametrize('best', [0, 1, 2])
def test_the_strength_with_the_best_score_is_taken_wherever_it_stands(context, monkeypatch, best):
    from ssl_zoo.evaluation.protocols import logistic as logistic_protocol

    scores = [50.0 + (i == best) for i in range(3)]
    monkeypatch.setattr(logistic_protocol, 'measure', lambda *_: scores.pop(0))
    assert (
        transfer_linear(context(), 'top1', STRENGTHS)['strength'] == STRENGTHS[best] and not scores
    )


def test_features_are_those_of_images_resized_to_the_crop(context):
    s = context()
    assert (s.preprocessing.size, s.preprocessing.resize) == (8, 12)
    transfer_linear(s, 'top1', STRENGTHS)
    stored = {
        p.name.split('-')[0]: np.load(p / 'features.npy')
        for p in (s.work_dir / 'features').iterdir()
        if p.is_dir()
    }
    assert {name: len(values) for name, values in stored.items()} == dict(
        transfer_train=140, transfer_val=40, transfer_test=60
    )
    for name in ('train', 'val', 'test'):
        np.testing.assert_allclose(
            stored[f'transfer_{name}'], slow_features(s, s.source(name), 8), rtol=1e-3, atol=1e-4
        )


def test_the_next_evaluation_of_the_same_subject_sees_images_as_its_config_says(context):
    s = context()
    before = s.identity()
    transfer_linear(s, 'top1', STRENGTHS[:1])
    assert s.identity() == before and s.preprocessing.resize == 12


def test_the_regressions_choice_does_not_look_at_the_test_labels(context):
    rows = []
    for i in range(2):
        s = context(work=str(i))
        if i:
            s.source('test').labels = (s.source('test').labels + 1 + np.arange(60) % 9) % 10
        rows.append(transfer_linear(s, 'top1', STRENGTHS))
    a, b = (Predictions.load(row['predictions']) for row in rows)
    assert (
        rows[0]['strength'] == rows[1]['strength']
        and np.array_equal(a.predicted, b.predicted)
        and (a.labels != b.labels).all()
    )


def test_a_stopped_sweep_of_strengths_is_not_continued_on_another_set(
    context, tmp_path, monkeypatch
):
    sets = [
        folder(tmp_path / f'set{i}', seed=i, size=8 + 2 * i) for i in range(2)
    ]  # of the same size and names
    monkeypatch.setattr(logistic, 'SAVE_SECONDS', -1)

    def on(i, work):
        return transfer_linear(
            context(f'data.train={sets[i]}', f'data.test={sets[i]}', 'data.val=0.25', work=work),
            'top1',
            STRENGTHS,
        )

    fits, real = [], logistic.LogisticRegression.fit

    def fit(self, x, y):
        if len(fits) == 2:
            raise KeyboardInterrupt
        fits.append(self.C)
        return real(self, x, y)

    with monkeypatch.context() as patch:
        patch.setattr(logistic.LogisticRegression, 'fit', fit)
        with pytest.raises(KeyboardInterrupt):
            on(0, 'work')
    seen = []
    monkeypatch.setattr(
        logistic.LogisticRegression,
        'fit',
        lambda self, x, y: seen.append(self.C) or real(self, x, y),
    )
    row = on(1, 'work')
    assert len(seen) == 4  # three strengths, and again with all
    alone = on(1, 'alone')
    assert (row['value'], row['protocol'], row['chosen']) == (
        alone['value'],
        alone['protocol'],
        alone['chosen'],
    )
    seen.clear()
    on(0, 'work')  # its own state is still there
    assert len(seen) == 2


# --- Fine-tuning: how long, with which BatchNorm


def test_bn_momentum_at_its_ends_and_in_between():
    """1 - max(1 - 10 / s, 0.9) for s steps per epoch: a tenth up to 100 steps, then 10 / s."""
    assert [bn_momentum(256 * s, 256) for s in (1, 10, 99, 100)] == pytest.approx([0.1] * 4)
    assert [bn_momentum(256 * s, 256) for s in (200, 1000, 10_000)] == pytest.approx(
        [0.05, 0.01, 0.001]
    )
    assert bn_momentum(3030, 256) == pytest.approx(0.1) and bn_momentum(
        75_750, 256
    ) == pytest.approx(10 * 256 / 75_750)
    assert bn_momentum(100, 100) == pytest.approx(0.1)
    momenta = [bn_momentum(n, 16) for n in range(16, 5000, 7)]
    assert all(0 < b <= a <= 0.1 + 1e-12 for a, b in zip(momenta, momenta[1:], strict=False))


class Counted(Source):
    """So many images of one pixel."""

    def __init__(self, n, name):
        self.n, self.text, self.labels, self.classes = n, name, np.arange(n) % 2, ['a', 'b']

    def __len__(self):
        return self.n

    def name(self, i):
        return f'{self.text}{i}'

    def read(self, i):
        return Image.new('RGB', (1, 1))

    def manifest(self):
        return f'{self.text}{self.n}'


class Asked(Exception):
    pass


def test_every_training_takes_exactly_so_many_steps_whatever_the_size_of_the_set(
    monkeypatch, tmp_path
):
    asked = []

    def finetune(context, train, val, recipe, settings, folder, metric, draw=0, bn_momentum=None):
        asked.append((len(train), recipe, settings[-1], bn_momentum))
        return None, Choice(settings[-1])

    def train_one(context, train, recipe, setting, draw, state, what, bn_momentum=None):
        asked.append((len(train), recipe, setting, bn_momentum))
        raise Asked

    monkeypatch.setattr(transfer_module, 'finetune', finetune)
    monkeypatch.setattr(transfer_module, 'train_one', train_one)
    monkeypatch.setattr(transfer_module, 'fingerprint', lambda source: dict(images=len(source)))

    class Fake:
        seed = 0

        def source(self, name):
            return dict(
                train=Counted(self.n - self.n // 5, 't'),
                val=Counted(self.n // 5, 'v'),
                test=Counted(2, 'q'),
            )[name]

        def folder(self, *_, **__):
            return tmp_path

    fake, rng = Fake(), np.random.default_rng(0)
    few, many = (1, 2, 3, 7, 100, 299, 300), range(1, 301)
    cases = [
        (n, int(steps), batch)
        for n in range(10, 2001, 3)
        for batch in (256,)
        for steps in (*few[:1], rng.choice(many))
    ]
    cases += [
        (n, steps, batch)
        for n in (10, 11, 255, 256, 257, 320, 321, 511, 640, 641, 1999, 2000)
        for batch in (1, 2, 255, 256, 1024)
        for steps in few
    ]
    cases += [(n, steps, 256) for n in (97, 1283) for steps in many] + [
        (3060, TRANSFER_STEPS, 256),
        (75_750, TRANSFER_STEPS, 256),
    ]
    for n, steps, batch in cases:
        fake.n, asked[:] = n, []
        with pytest.raises(Asked):
            transfer_finetune(fake, 'top1', TRANSFER.with_changes(batch_size=batch), steps)
        assert [images for images, *_ in asked] == [n - n // 5, n]
        for images, recipe, setting, momentum in asked:
            size = min(batch, images)
            assert recipe.batch_size == batch and recipe.steps(setting.epochs, images) == steps, (
                n,
                steps,
                batch,
            )
            assert momentum == pytest.approx(min(0.1, 10 * size / images))
            if batch == 256:  # the cosine ends with the steps
                assert recipe.factor(steps - 1, setting.epochs, images) == pytest.approx(
                    (1 + math.cos(math.pi * (steps - 1) / steps)) / 2
                )


@pytest.mark.parametrize(('n', 'batch', 'number'), [(25, 256, 2), (10, 3, 7)])
def test_so_many_steps_are_really_done(context, tmp_path, steps, n, batch, number):
    data = folder(tmp_path / 'set', classes=5, per_class=n // 5)
    s = context(f'data.train={data}', f'data.test={data}', 'data.val=0.2')
    transfer_finetune(s, 'top1', RECIPE.with_changes(batch_size=batch), number)
    assert len(steps) == 5 * number  # 4 settings, and the chosen one again
    steps[:] = []
    transfer_finetune(
        context(f'data.train={data}', f'data.test={data}', 'data.val=0.2', work='once'),
        'top1',
        RECIPE.with_changes(batch_size=batch),
        number,
        retrain=False,
    )
    assert len(steps) == 4 * number


# --- Fine-tuning: the network


def slow_finetuning(
    s: EvaluationContext,
    source: Source,
    batch: int,
    steps: int,
    lr: float,
    decay: float,
    momentum: float,
):
    """SGD with Nesterov momentum, step by step.

    v <- 0.9 v + g + decay w;  w <- w - lr (0.9 v + g + decay w)
    """
    encoder = copy.deepcopy(s.encoder).train().requires_grad_(True)
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = momentum
    head = nn.Linear(s.width, 10)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    parameters = [*encoder.parameters(), *head.parameters()]
    velocity = [torch.zeros_like(p) for p in parameters]
    batches = ImageBatches(source, TRANSFER, s.preprocessing, 0, 0, torch.device('cpu'))
    for step, (x, y) in enumerate(batches.steps(batch, 0, steps)):
        gradients = torch.autograd.grad(F.cross_entropy(head(encoder(x)), y), parameters)
        rate = lr * (1 + math.cos(math.pi * step / steps)) / 2
        with torch.no_grad():
            for p, g, v in zip(parameters, gradients, velocity, strict=True):
                g = g + (decay * p if p.ndim > 1 else 0)
                v.mul_(0.9).add_(g)
                p.sub_(rate * (g + 0.9 * v))
    return encoder.eval(), head


@pytest.mark.parametrize('retrain', [False, True])
def test_the_network_that_is_tested_equals_a_slow_one(context, networks, retrain):
    s = context('data.train.split=train')  # more than 100 steps per epoch
    train, val = s.source('train'), s.source('val')
    row = transfer_finetune(s, 'top1', ONE.with_changes(batch_size=8), 9, retrain)
    everything = (
        type(
            'Both',
            (Source,),
            dict(
                __len__=lambda self: 1257,
                labels=np.concatenate([train.labels, val.labels]),
                read=lambda self, i: train.read(i) if i < 1217 else val.read(i - 1217),
            ),
        )()
        if retrain
        else train
    )
    momentum = 10 * 8 / (1257 if retrain else 1217)
    encoder, head = slow_finetuning(s, everything, 8, 9, 0.05, 1e-3 / 0.05, momentum)
    [network] = networks
    for (name, value), expected in zip(
        network.encoder.state_dict().items(), encoder.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-5, msg=name)
    for name in ('weight', 'bias'):
        torch.testing.assert_close(
            getattr(network.heads, name)[0], getattr(head, name), rtol=1e-4, atol=1e-5
        )
    [found] = {m.momentum for m in network.modules() if isinstance(m, nn.BatchNorm2d)}
    assert found == pytest.approx(momentum)
    selection = 'one setting, trained again with the hold-out' if retrain else 'one setting'
    assert (
        describe_row(row)
        == f'whole network fine-tuned, 9 steps of 8, SGD, lr 0.05, weight decay 0.02; {selection}'
    )


def test_what_of_the_method_is_fine_tuned_is_a_copy(context, networks):
    s = context()
    before = copy.deepcopy(s.method.state_dict())
    transfer_finetune(s, 'top1', ONE, 3)
    assert all(torch.equal(value, before[name]) for name, value in s.method.state_dict().items())
    for (name, a), b in zip(
        s.encoder.named_parameters(), networks[0].encoder.parameters(), strict=True
    ):
        assert not torch.equal(a, b), name


def scripted(monkeypatch, numbers):
    """Predictions for the hold-out, one after the other: so many of its images are right."""
    waiting, sources = list(numbers), []

    def predict(network, source, *_):
        sources.append(names(source))
        right, labels = np.arange(len(source)) < waiting.pop(0), source.labels
        return np.arange(len(source)), np.where(right, labels, (labels + 1) % 10)[:, None, None], []

    monkeypatch.setattr(finetune_module, 'predict', predict)
    return sources


@pytest.mark.parametrize(('scores', 'best'), [((1, 9, 9, 2), 1), ((1, 2, 3, 9), 3)])
def test_the_best_setting_on_the_hold_out_is_trained_again_with_it(
    context, networks, monkeypatch, tmp_path, scores, best
):
    s = context()
    sources = scripted(monkeypatch, scores)
    row = transfer_finetune(s, 'top1', RECIPE, 3)
    assert sources == [names(s.source('val'))] * 4
    lr, decay = [(0.01, 0.0), (0.01, 0.1), (0.1, 0.0), (0.1, 0.01)][best]  # 1e-3 / lr
    assert (
        f'lr {lr:g}, weight decay {decay:g}; chosen of 4 on 40 held-out images '
        f'({2.5 * max(scores):.2f} %), ' in describe_row(row)
    )
    alone = transfer_finetune(
        context(work='alone'),
        'top1',
        RECIPE.with_changes(lrs=(lr,), weight_decays=(decay * lr,)),
        3,
    )
    assert np.array_equal(*(Predictions.load(r['predictions']).predicted for r in (row, alone)))
    for a, b in zip(*(network.state_dict().values() for network in networks), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


def test_the_choice_of_fine_tuning_does_not_look_at_the_test_labels(context):
    rows = []
    for i in range(2):
        s = context(work=str(i))
        if i:
            s.source('test').labels = (s.source('test').labels + 1 + np.arange(60) % 9) % 10
        rows.append(transfer_finetune(s, 'top1', RECIPE, 4))
    a, b = (Predictions.load(row['predictions']) for row in rows)
    assert (
        rows[0]['protocol'] == rows[1]['protocol']
        and rows[0]['chosen'] == rows[1]['chosen']
        and np.array_equal(a.predicted, b.predicted)
        and (a.labels != b.labels).all()
    )


def test_test_images_are_read_once_and_at_the_end(context, monkeypatch, steps):
    reads, real = [], Digits.read
    # The digest of a row reads a sample of the images, too.
    monkeypatch.setattr(context_module, 'data_digest', lambda source: 'digest')
    monkeypatch.setattr(
        Digits, 'read', lambda self, i: reads.append((self.name(i), len(steps))) or real(self, i)
    )
    s = context()
    transfer_finetune(s, 'top1', RECIPE, 3)
    of_test = set(names(s.source('test')))
    assert sorted(read for read in reads if read[0] in of_test) == sorted(
        (name, 15) for name in of_test
    )


def test_the_metric_chooses_and_is_reported(context, tmp_path, monkeypatch):
    asked, real = [], finetune_module.measure
    monkeypatch.setattr(
        finetune_module,
        'measure',
        lambda metric, *rest: asked.append(metric) or real(metric, *rest),
    )
    data = folder(tmp_path / 'test', classes=2, per_class=10)
    for i in range(8):
        (tmp_path / 'test' / 'class_1' / f'{i}.png').unlink()  # 10 and 2
    s = context(f'data.train={folder(tmp_path / "train")}', f'data.test={data}', 'data.val=6')
    row = transfer_finetune(s, 'mean_per_class', RECIPE, 2)
    assert asked == ['mean_per_class'] * 4 and row['metric'] == 'transfer_finetune_mean_per_class'
    kept = Predictions.load(row['predictions'])
    right = kept.predicted[:, 0] == kept.labels
    assert row['value'] == pytest.approx(
        100 * (right[kept.labels == 0].mean() + right[kept.labels == 1].mean()) / 2
    )
    assert np.bincount(kept.labels).tolist() == [10, 2]


def test_the_row_is_complete(context, tmp_path):
    s = context(seed=2)
    row = transfer_finetune(s, 'top1', RECIPE, 4)
    [line] = (tmp_path / 'work' / 'results.jsonl').read_text().splitlines()
    assert json.loads(line) == json.loads(json.dumps(row))
    assert (
        row['metric'] == 'transfer_finetune_top1'
        and row['recipe'] == RECIPE.to_builtin()
        and row['setting'].startswith('lr 0.')
    )
    assert (row['n'], row['seed'], row['test'], row['test_manifest']) == (
        60,
        2,
        'Digits',
        s.source('test').manifest(),
    )
    assert row['checkpoint_sha256'] == s.checkpoint_hash and describe_row(row).startswith(
        'whole network fine-tuned, 4 steps of 16, SGD, '
    )


def test_the_row_states_the_batch_of_the_network_that_is_tested(context, tmp_path):
    """A set smaller than a batch grows by the hold-out when the chosen setting is trained again."""
    data = folder(tmp_path / 'set')
    for retrain, size in ((False, 18), (True, 24)):
        row = transfer_finetune(
            context(f'data.train={data}', f'data.test={data}', 'data.val=6', work=str(size)),
            'top1',
            ONE.with_changes(batch_size=256),
            2,
            retrain,
        )
        assert f'2 steps of {size},' in describe_row(row)


# --- Fine-tuning: stops


@pytest.mark.long
def test_stopped_fine_tuning_goes_on_bit_for_bit_and_trains_nothing_twice(context, networks, steps):
    whole = transfer_finetune(context(work='whole'), 'top1', RECIPE, 3)
    assert len(steps) == 15
    for stop_at in (3, 8, 12, 14):  # the last three train again
        steps[:], steps.stop_at = [], stop_at
        with pytest.raises(Stopped):
            transfer_finetune(context(work=str(stop_at)), 'top1', RECIPE, 3)
        assert len(steps) == stop_at
        parts = transfer_finetune(context(work=str(stop_at)), 'top1', RECIPE, 3)
        assert len(steps) == 15
        assert all(
            torch.equal(a, b)
            for a, b in zip(
                networks[0].state_dict().values(), networks[-1].state_dict().values(), strict=True
            )
        )
        assert all(whole[key] == parts[key] for key in ('value', 'protocol', 'chosen', 'setting'))


@pytest.mark.long
@pytest.mark.parametrize('changed', ['steps', 'recipe', 'seed', 'metric', 'val', 'data', 'pixels'])
def test_what_was_trained_for_one_transfer_is_not_taken_for_another(
    context, tmp_path, steps, changed
):
    data, larger = folder(tmp_path / 'set'), folder(tmp_path / 'larger', size=16)  # the same names
    transfer_finetune(
        context(f'data.train={data}', f'data.test={data}', 'data.val=6'),
        'top1',
        ONE,
        2,
        retrain=False,
    )
    assert len(steps) == 2
    if changed == 'data':
        (tmp_path / 'set' / 'class_1' / '7.png').rename(tmp_path / 'set' / 'class_0' / '8.png')
    train = larger if changed == 'pixels' else data
    number, val = 3 if changed == 'steps' else 2, 9 if changed == 'val' else 6
    recipe = ONE.with_changes(crop=(0.5, 1.0)) if changed == 'recipe' else ONE
    s = context(
        f'data.train={train}', f'data.test={data}', f'data.val={val}', seed=int(changed == 'seed')
    )
    transfer_finetune(
        s, 'mean_per_class' if changed == 'metric' else 'top1', recipe, number, retrain=False
    )
    assert len(steps) == 2 + number


# --- Mistakes


def test_mistakes_get_a_sentence_before_anything_is_trained(context, tmp_path, steps, monkeypatch):
    one = folder(tmp_path / 'one', classes=1)
    both = (f'data.train={one}', f'data.test={one}', 'data.val=2')
    monkeypatch.setattr(logistic, 'fit', lambda *_: pytest.fail('fitted'))
    for call, words in (
        (
            lambda: transfer_finetune(context(), 'top1', RECIPE, 0),
            '--steps is 0, but it must be at least 1',
        ),
        (lambda: transfer_finetune(context(), 'top1', RECIPE, -5), '--steps is -5'),
        (
            lambda: transfer_finetune(context(), 'top5', RECIPE, 5),
            "the metric is 'top5': did you mean 'top1'",
        ),
        (
            lambda: transfer_finetune(context(*both), 'top1', RECIPE, 5),
            'the training images are all of one class',
        ),
        (
            lambda: transfer_finetune(context('data.val=None'), 'top1', RECIPE, 5),
            'the config has no data.val',
        ),
        (
            lambda: transfer_finetune(context('data.test=None'), 'top1', RECIPE, 5),
            'the config has no data.test',
        ),
        (lambda: transfer_linear(context('data.val=None'), 'top1'), 'the config has no data.val'),
        (
            lambda: transfer_linear(context(*both), 'top1'),
            'the training images are all of one class',
        ),
    ):
        with pytest.raises(ConfigError, match=words):
            call()
    assert not steps


def test_an_unknown_metric_of_a_regression_is_told_before_features_are_extracted(context, tmp_path):
    with pytest.raises(
        ConfigError, match="the metric is 'accuracy': Allowed: mean_per_class, top1"
    ):
        transfer_linear(context(), 'accuracy', STRENGTHS)
    assert not (tmp_path / 'work' / 'features').exists()


@pytest.mark.parametrize(
    'strengths', [(), (0.0,), (1.0, 0.0), (-1.0,), (1.0, -1.0), (math.nan,), (math.inf, 1.0)]
)
def test_strengths_that_are_no_penalties_get_a_sentence(context, strengths):
    with pytest.raises(ConfigError, match='strength'):
        transfer_linear(context(), 'top1', strengths)


def test_the_sweep_is_byols():
    assert (
        TRANSFER_STEPS == 20_000
        and TRANSFER.batch_size == 256
        and (TRANSFER.momentum, TRANSFER.nesterov) == (0.9, True)
    )
    np.testing.assert_allclose(TRANSFER.lrs, [10 ** (-4 + i / 2) for i in range(7)])
    np.testing.assert_allclose(TRANSFER.weight_decays, [0, *(10 ** (-6 + i / 2) for i in range(7))])
    settings = TRANSFER.settings(5000)
    assert len(settings) == 56 and not TRANSFER.per_256
    assert {round(s.lr * s.weight_decay, 12) for s in settings} == {
        round(d, 12) for d in TRANSFER.weight_decays
    }  # divided by the rate
