"""Fine-tuning on few labels: images, trained parameters, choice, stops, results row."""

import copy
import functools
import hashlib
import json
import os
import signal
import urllib.error
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets
import torch
from PIL import Image
from torch import nn

from ssl_zoo.checkpoint import read_checkpoint
from ssl_zoo.data.label_lists import OFFICIAL, draw_labels, write_list
from ssl_zoo.data.sources import Source, Subset
from ssl_zoo.data.sources.arrays import Digits
from ssl_zoo.errors import ConfigError, MissingData, Stopped
from ssl_zoo.evaluation import labelled_batches
from ssl_zoo.evaluation.predictions import Predictions
from ssl_zoo.evaluation.protocols import context as context_module
from ssl_zoo.evaluation.protocols import finetune as finetune_module
from ssl_zoo.evaluation.protocols.choice import Choice
from ssl_zoo.evaluation.protocols.describe import describe_row
from ssl_zoo.evaluation.protocols.finetune import build_network, finetune, train_one
from ssl_zoo.evaluation.protocols.labels import labelled_images
from ssl_zoo.evaluation.protocols.semi_supervised import evaluate_semi_supervised
from ssl_zoo.evaluation.recipes import FINETUNE
from ssl_zoo.registry import SOURCES

RECIPE = FINETUNE.with_changes(
    lrs=(0.2, 2.0), epochs=(1, 2), batch_size=16
)  # 4 settings: of 40 labels, 2 steps or 5
ONE = RECIPE.with_changes(lrs=(2.0,), epochs=(2,))
NO_VAL = 'data.val=None'


@pytest.fixture(scope='module', autouse=True)
def _quick():
    """The digits are read once, and nothing waits for the disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            sklearn.datasets, 'load_digits', functools.cache(sklearn.datasets.load_digits)
        )
        patch.setattr(os, 'fsync', lambda _: None)
        yield


def names(source) -> list[str]:
    return [source.name(i) for i in range(len(source))]


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(
        torch.equal(x, y)
        for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )


def image(path: Path, seed: int, size: int = 8):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(
        np.random.default_rng(seed).integers(0, 256, (size, size, 3)).astype(np.uint8)
    ).save(path)


# --- Which images have labels


def test_drawn_labels_are_of_training_images_and_leave_the_hold_out_alone(context):
    s = context()
    for labels, n in (('4-per-class', 40), ('20%', 28)):
        train, val, about = labelled_images(s, labels, None, 0)
        assert val is s.source('val') and len(val) == 40
        assert names(train) == [
            s.source('train').name(i) for i in draw_labels(s.source('train'), labels, 0)
        ]
        assert (
            len(train) == n == about['labelled']
            and about['label_set'] == labels
            and not set(names(train)) & set(names(val))
        )
        digits = Digits('val', size=8)  # each image keeps its pixels and its class
        at = [names(digits).index(name) for name in names(train)]
        assert train.labels.tolist() == digits.labels[at].tolist()
        assert all(train.read(k).tobytes() == digits.read(i).tobytes() for k, i in enumerate(at))
        content = Path(about['list']).read_bytes()
        assert (
            content.decode().split('\n') == [*names(train), '']
            and hashlib.sha256(content).hexdigest() == about['list_sha256']
        )
    assert {
        Path(about['list']).name for about in (about, labelled_images(s, '20%', None, 2)[2])
    } == {'20percent_seed0.txt', '20percent_seed2.txt'}


def test_draws_and_seeds_have_lists_of_their_own(context):
    lists = [
        labelled_images(context(seed=seed), '4-per-class', None, draw)[2]['list_sha256']
        for seed, draw in ((0, 0), (0, 1), (5, 0))
    ]
    assert len(set(lists)) == 3


def test_images_of_a_given_list_do_not_stay_in_the_hold_out(context, tmp_path):
    s = context()
    whole = Digits('val', size=8)
    listed = np.arange(0, 180, 3)
    write_list(tmp_path / 'list.txt', whole, listed)
    train, val, about = labelled_images(s, None, str(tmp_path / 'list.txt'), 0)
    chosen, before = [whole.name(i) for i in listed], names(s.source('val'))
    assert names(train) == chosen and train.labels.tolist() == whole.labels[listed].tolist()
    assert 0 < len(val) < 40 and names(val) == [name for name in before if name not in chosen]
    assert val.labels.tolist() == [whole.labels[names(whole).index(name)] for name in names(val)]
    assert about == dict(
        label_set='list.txt',
        list=str(tmp_path / 'list.txt'),
        labelled=60,
        list_sha256=hashlib.sha256((tmp_path / 'list.txt').read_bytes()).hexdigest(),
    )
    assert len(s.source('val')) == 40
    write_list(tmp_path / 'all.txt', whole, np.arange(180))
    with pytest.raises(
        ConfigError,
        match='all images of the hold-out are in the list .*all.txt; hold other images out with '
        '--cfg-options',
    ):
        labelled_images(s, None, str(tmp_path / 'all.txt'), 0)
    assert labelled_images(context(NO_VAL), None, str(tmp_path / 'all.txt'), 0)[1] is None


def test_a_hold_out_of_its_own_source_loses_nothing_to_a_list_with_the_same_names(
    context, tmp_path, image_folder
):
    train, val = (
        image_folder(name='train', size=8),
        image_folder(name='val', size=8),
    )  # class_0/0.png ... in both
    s = context(
        f'data.train={dict(type="ImageFolder", root=str(train))}',
        f'data.val={dict(type="ImageFolder", root=str(val))}',
        f'data.test={dict(type="ImageFolder", root=str(val))}',
    )
    write_list(tmp_path / 'list.txt', s.source('train'), np.array([0, 1, 8, 9, 16]))
    assert len(labelled_images(s, None, str(tmp_path / 'list.txt'), 0)[1]) == 24


def test_a_source_without_class_names_takes_a_list_too(context, tmp_path, monkeypatch):
    class Nameless(Digits):
        def __init__(self, split):
            super().__init__(split, size=8)
            self.classes = None

    monkeypatch.setitem(SOURCES.module_dict, 'Nameless', Nameless)
    s = context(f'data.train={dict(type="Nameless", split="val")}')
    write_list(tmp_path / 'list.txt', Digits('val'), np.arange(100))
    assert len(labelled_images(s, '4-per-class', None, 0)[0]) == 40
    train, val, _ = labelled_images(s, None, str(tmp_path / 'list.txt'), 0)
    assert len(train) == 100 and not set(names(train)) & set(names(val))


class Thousand(Source):
    """Like ImageNet: a thousand classes, three images of each."""

    def __init__(self, prefix='n'):
        self.classes, self.labels = [f'{prefix}{i:08d}' for i in range(1000)], np.arange(3000) // 3

    def __len__(self):
        return 3000

    def read(self, i):
        return Image.new('RGB', (8, 8), (int(i) % 256, int(i) // 256, 0))

    def name(self, i):
        return f'{self.classes[i // 3]}/{self.classes[i // 3]}_{i % 3}.JPEG'


def test_the_official_lists_are_for_imagenet_alone_and_for_1_and_10_percent_alone(
    context, tmp_path, monkeypatch
):
    monkeypatch.setitem(SOURCES.module_dict, 'Thousand', Thousand)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    (tmp_path / 'cache' / 'ssl_zoo').mkdir(parents=True)
    official = {}
    for labels, some in (('1%', range(0, 60, 2)), ('10%', range(300))):
        name, official[labels] = (
            OFFICIAL[labels][0],
            [Thousand().name(i).split('/')[1] for i in some],
        )
        text = ''.join(f'{line}\n' for line in official[labels]).encode()
        (tmp_path / 'cache' / 'ssl_zoo' / f'simclr_{name}').write_bytes(text)
        monkeypatch.setitem(OFFICIAL, labels, (name, hashlib.sha256(text).hexdigest()))
    like_imagenet = context("data.train={'type': 'Thousand'}", 'data.val=1000', 'data.test=None')
    for labels, lines in official.items():
        for draw in (0, 3):
            train, val, about = labelled_images(like_imagenet, labels, None, draw)
            assert [name.split('/')[1] for name in names(train)] == lines and about[
                'label_set'
            ] == labels
            assert about['list'] == str(
                tmp_path / 'cache' / 'ssl_zoo' / f'simclr_{OFFICIAL[labels][0]}'
            )
            assert about['list_sha256'] == OFFICIAL[labels][1] and about['labelled'] == len(lines)
            assert not set(names(train)) & set(names(val)) and len(val) < 1000
    for labels, n in (('50%', 1000), ('1-per-class', 1000)):
        train, val, about = labelled_images(like_imagenet, labels, None, 0)
        assert (
            len(train) == n
            and Path(about['list']).parent == tmp_path / 'work' / 'labels'
            and len(val) == 1000
        )
    other = context("data.train={'type': 'Thousand', 'prefix': 'x'}", NO_VAL, 'data.test=None')
    with pytest.raises(
        ConfigError, match='10% of 3000 images are 300, fewer than the 1000 classes'
    ):  # so it wants to draw
        labelled_images(other, '10%', None, 0)
    assert (
        Path(labelled_images(context(), '10%', None, 0)[2]['list']).parent
        == tmp_path / 'work' / 'labels'
    )

    def offline(*_, **__):
        raise urllib.error.URLError('no network')

    monkeypatch.setattr(torch.hub, 'download_url_to_file', offline)
    (tmp_path / 'cache' / 'ssl_zoo' / 'simclr_1percent.txt').unlink()
    with pytest.raises(
        MissingData,
        match='could not fetch the official list https://raw.*/1percent.txt .*no network.*--list',
    ):
        labelled_images(like_imagenet, '1%', None, 0)


# --- What is trained


def test_the_whole_network_is_trained_from_the_checkpoints_weights_which_stay_as_they_are(
    context, checkpoint, tmp_path, monkeypatch
):
    s = context()
    train, _, _ = labelled_images(s, '4-per-class', None, 0)
    start = build_network(s, ONE, 0, None)
    trained = read_checkpoint(checkpoint)['method']
    weights = {
        k.removeprefix('online.backbone.'): v
        for k, v in trained.items()
        if k.startswith('online.backbone.')
    }
    assert weights and all(
        torch.equal(v, start.encoder.state_dict()[k]) for k, v in weights.items()
    )
    assert weights.keys() == start.encoder.state_dict().keys()
    read, real = set(), Digits.pixels
    monkeypatch.setattr(Digits, 'pixels', lambda self, i: read.add(self.name(i)) or real(self, i))
    network = train_one(s, train, ONE, ONE.settings(40)[0], 0, tmp_path / 'state.pth', 'training')
    assert read == set(names(train))
    for (name, before), after in zip(start.named_parameters(), network.parameters(), strict=True):
        assert before.requires_grad and after.requires_grad and not torch.equal(before, after), name
    for (name, before), after in zip(
        start.named_buffers(), network.buffers(), strict=True
    ):  # BatchNorm's statistics too
        assert not torch.equal(before, after), name
    assert same(s.encoder, start.encoder) and same(s.method.encoder(), start.encoder)
    assert {m.momentum for m in network.modules() if isinstance(m, nn.BatchNorm2d)} == {0.1}
    assert network(torch.zeros(3, 3, 8, 8)).shape == (3, 1, 10)


def test_a_target_network_is_trained_too(context, tmp_path):
    s = context(network='target')
    train, _, _ = labelled_images(s, '4-per-class', None, 0)
    start, network = (
        build_network(s, ONE, 0, None),
        train_one(s, train, ONE, ONE.settings(40)[0], 0, tmp_path / 'state.pth', ''),
    )
    assert all(
        not torch.equal(a, b)
        for a, b in zip(start.encoder.parameters(), network.encoder.parameters(), strict=True)
    )


def test_from_scratch_starts_from_random_weights_that_differ_from_draw_to_draw(context):
    trained, random = context(), context(random_weights=True)
    draws = [build_network(random, ONE, draw, None) for draw in (0, 1, 2, 0)]
    assert same(draws[0], draws[3])
    encoders = [n.encoder for n in draws[:3]] + [trained.encoder]
    heads = [n.heads for n in draws[:3]]
    for i in range(4):
        for j in range(i):
            for (name, a), b in zip(
                encoders[i].named_parameters(), encoders[j].parameters(), strict=True
            ):
                assert a.ndim == 1 or not torch.equal(a, b), name
    assert not any(same(heads[i], heads[j]) for i in range(3) for j in range(i))
    again = [build_network(trained, ONE, draw, None) for draw in (0, 1)]
    assert same(again[0].encoder, again[1].encoder) and not same(again[0].heads, again[1].heads)
    other_seed = context(seed=7)
    assert not same(build_network(other_seed, ONE, 0, None).heads, again[0].heads)


def test_from_scratch_has_the_same_labels_budget_and_choice(context, steps, monkeypatch):
    looked_at, rows, budgets, real = [], {}, {}, finetune_module.predict

    def predict(network, source, *rest):
        looked_at.append(names(source))
        return real(network, source, *rest)

    monkeypatch.setattr(finetune_module, 'predict', predict)
    for weights in ('trained', 'random weights'):
        rows[weights] = evaluate_semi_supervised(
            context(random_weights=weights == 'random weights'),
            '4-per-class',
            None,
            RECIPE,
            draws=2,
        )
        budgets[weights], steps[:] = list(steps), []
    assert budgets['trained'] == budgets['random weights'] and len(budgets['trained']) == 2 * 2 * (
        2 + 5
    )
    assert looked_at[:8] == looked_at[8:] and len(looked_at) == 16
    for a, b in zip(rows['trained'], rows['random weights'], strict=True):
        for key in ('labelled', 'label_set', 'recipe', 'n', 'test_manifest', 'seed', 'metric'):
            assert a[key] == b[key], key
        assert a.get('list_sha256') == b.get('list_sha256') and a.get('lists_sha256') == b.get(
            'lists_sha256'
        )
        assert describe_row(a).startswith('fine-tuned on 40 labels (4-per-class)') and (
            a['weights'],
            a['step'],
        ) == ('trained', 7)
        assert describe_row(b).startswith('from scratch on 40 labels (4-per-class)') and (
            b['weights'],
            b['step'],
        ) == ('random weights', 0)
        for row in (a, b):
            assert 'mean of 2 draws' in describe_row(
                row
            ) or 'chosen of 4 on 40 held-out images' in describe_row(row)


def test_labels_are_learnt(context):
    s = context('data.train.split=train', 'data.val=0.1')
    recipe = FINETUNE.with_changes(
        lrs=(3.0,), epochs=(3,), batch_size=32, crop=(0.8, 1.0), flip_p=0.0
    )
    assert evaluate_semi_supervised(s, '40-per-class', None, recipe)[0]['value'] > 60


# --- What is chosen, and on what


def scripted(monkeypatch, rights):
    """Predictions for the hold-out, each an array of whether the images are right."""
    waiting = list(rights)

    def predict(network, source, *_):
        right, labels = np.array(waiting.pop(0)), source.labels
        return np.arange(len(source)), np.where(right, labels, (labels + 1) % 10)[:, None, None], []

    monkeypatch.setattr(finetune_module, 'predict', predict)
    return waiting


def test_the_best_network_is_kept_not_the_last_and_of_equals_the_first(
    context, tmp_path, monkeypatch, capsys
):
    s = context()
    train, val, _ = labelled_images(s, '4-per-class', None, 0)
    settings = RECIPE.settings(40)
    networks = [
        train_one(s, train, RECIPE, setting, 0, tmp_path / 'state.pth', '') for setting in settings
    ]
    assert not any(same(networks[i], networks[j]) for i in range(4) for j in range(i))
    asked = []

    def trained(context, source, recipe, setting, *_):
        asked.append(setting)
        return copy.deepcopy(networks[settings.index(setting)])

    monkeypatch.setattr(finetune_module, 'train_one', trained)
    for best, scores in (
        (0, (9, 8, 7, 1)),
        (1, (3, 20, 20, 4)),
        (2, (0, 0, 1, 0)),
        (3, (5, 4, 5, 6)),
        (0, (0, 0, 0, 0)),
    ):
        left = scripted(monkeypatch, [np.arange(40) < n for n in scores])
        folder = tmp_path / f'{best}{scores}'
        capsys.readouterr()
        network, choice = finetune(s, train, val, RECIPE, settings, folder)
        assert not left and same(network, networks[best])
        assert choice == Choice(settings[best], best, 40, pytest.approx(2.5 * scores[best]))
        printed = capsys.readouterr().out
        assert [line.split()[0] for line in printed.splitlines() if ' lr ' in line] == [
            f'{2.5 * n:.2f}' for n in scores
        ]
        assert [line for line in printed.splitlines() if '<- chosen' in line] == [
            f'{2.5 * scores[best]:8.2f}  {settings[best]}  <- chosen'
        ]
    assert asked == settings * 5


def test_the_metric_that_is_reported_is_the_one_that_chooses(context, tmp_path, monkeypatch):
    s = context()
    train, val, _ = labelled_images(s, '4-per-class', None, 0)
    val = Subset(
        val,
        np.sort(
            np.concatenate(
                [
                    np.flatnonzero(val.labels == 0),
                    [np.flatnonzero(val.labels == c)[0] for c in (1, 2)],
                ]
            )
        ),
    )
    often = [val.labels == 0, val.labels > 0]  # all of the large class, or all of the small ones
    settings = RECIPE.settings(40)[:2]
    for metric, best, score in (('top1', 0, 100 * 4 / 6), ('mean_per_class', 1, 100 * 2 / 3)):
        assert np.bincount(val.labels).tolist() == [4, 1, 1]
        scripted(monkeypatch, often)
        _, choice = finetune(s, train, val, RECIPE, settings, tmp_path / metric, metric)
        assert choice == Choice(settings[best], best, 6, pytest.approx(score))


def test_one_setting_needs_no_hold_out_and_several_do(context, monkeypatch):
    monkeypatch.setattr(finetune_module, 'predict', lambda *_: pytest.fail('nothing to choose'))
    [row] = evaluate_semi_supervised(context(NO_VAL), '4-per-class', None, ONE)
    assert (
        describe_row(row).endswith('batch 16; one setting')
        and row['setting'] == 'lr 0.125, 2 epochs'
    )  # 2 * 16 / 256
    with pytest.raises(
        ConfigError,
        match='the config has no data.val: choices are made on images held out from training, '
        'never',
    ):
        evaluate_semi_supervised(context(NO_VAL), '4-per-class', None, RECIPE)


def test_the_choice_does_not_look_at_the_test_labels(context):
    rows = []
    for i in range(2):
        s = context(work=f'work{i}')
        if i:
            s.source('test').labels = (
                s.source('test').labels + 1 + np.arange(60) % 9
            ) % 10  # every one is wrong
        rows += evaluate_semi_supervised(s, '8-per-class', None, RECIPE)
    a, b = (Predictions.load(row['predictions']) for row in rows)
    assert np.array_equal(a.predicted, b.predicted) and (a.labels != b.labels).all()
    assert rows[0]['setting'] == rows[1]['setting'] and rows[0]['protocol'] == rows[1]['protocol']
    assert rows[0]['chosen'] == rows[1]['chosen']
    assert [row['value'] for row in rows] == [
        100 * np.mean(kept.predicted[:, 0] == kept.labels) for kept in (a, b)
    ]


def test_test_images_are_read_once_for_each_draw_and_after_everything_is_chosen(
    context, monkeypatch, steps
):
    reads, real = [], Digits.read
    # The digest of a row reads a sample of the images, too.
    monkeypatch.setattr(context_module, 'data_digest', lambda source: 'digest')
    monkeypatch.setattr(
        Digits, 'read', lambda self, i: reads.append((self.name(i), len(steps))) or real(self, i)
    )
    s = context()
    of_test, of_val = set(names(s.source('test'))), set(names(s.source('val')))
    evaluate_semi_supervised(s, '4-per-class', None, RECIPE, draws=2)
    looked = Counter((name, done) for name, done in reads if name in of_test)
    assert looked == Counter({(name, done): 1 for name in of_test for done in (14, 28)})
    assert (
        min(Counter(name for name, _ in reads if name in of_val).values()) >= 8
    )  # once for each setting


def test_a_setting_that_diverges_does_not_end_the_sweep(context):
    for i, lrs in enumerate(((2.0, 1e30), (1e30, 2.0))):
        [row] = evaluate_semi_supervised(
            context(work=str(i)), '4-per-class', None, ONE.with_changes(lrs=lrs)
        )
        assert row['setting'] == 'lr 0.125, 2 epochs' and 'chosen of 2' in describe_row(row)
    with pytest.raises(FloatingPointError, match='lower the learning rates'):
        evaluate_semi_supervised(context(), '4-per-class', None, ONE.with_changes(lrs=(1e30,)))


# --- Stops


@pytest.mark.long
def test_a_stopped_sweep_goes_on_bit_for_bit_and_trains_nothing_twice(context, tmp_path, steps):
    s = context()
    train, val, _ = labelled_images(s, '4-per-class', None, 0)
    settings = RECIPE.settings(40)  # 2, 2, 5, 5 steps
    whole = finetune(s, train, val, RECIPE, settings, tmp_path / 'whole')
    assert len(steps) == 14
    for stop_at in (1, 2, 7, 13):
        folder = tmp_path / f'stopped at {stop_at}'
        steps[:], steps.stop_at = [], stop_at
        with pytest.raises(Stopped) as stopped:
            finetune(s, train, val, RECIPE, settings, folder)
        assert stopped.value.exit_code == 128 + signal.SIGTERM and len(steps) == stop_at
        again = finetune(context(), train, val, RECIPE, settings, folder)  # as a new process would
        assert len(steps) == 14 and same(whole[0], again[0]) and whole[1:] == again[1:]
        assert not (folder / 'state.pth').exists()
    assert same(finetune(s, train, val, RECIPE, settings, folder)[0], whole[0]) and len(steps) == 14


@pytest.mark.long
def test_an_evaluation_stopped_in_its_second_draw_gives_the_figures_of_one_go(context, steps):
    rows = evaluate_semi_supervised(context(work='whole'), '4-per-class', None, RECIPE, draws=2)
    steps[:] = []
    steps.stop_at = 20
    with pytest.raises(Stopped):
        evaluate_semi_supervised(context(work='parts'), '4-per-class', None, RECIPE, draws=2)
    again = evaluate_semi_supervised(context(work='parts'), '4-per-class', None, RECIPE, draws=2)
    assert len(steps) == 28
    for a, b in zip(rows, again, strict=True):
        assert all(
            a.get(key) == b.get(key)
            for key in ('metric', 'value', 'setting', 'protocol', 'chosen', 'values', 'std')
        )
    for a, b in zip(rows[:2], again[:2], strict=True):
        assert np.array_equal(
            Predictions.load(a['predictions']).predicted,
            Predictions.load(b['predictions']).predicted,
        )


@pytest.mark.long
def test_what_was_trained_for_one_evaluation_is_not_taken_for_another(context, steps):
    recipe = RECIPE.with_changes(epochs=(1,))
    for _ in range(2):
        evaluate_semi_supervised(context(), '4-per-class', None, recipe)
    assert len(steps) == 4
    for changed, arguments, labels, other, metric in (
        ('labels', {}, '5-per-class', recipe, 'top1'),
        ('seed', dict(seed=1), '4-per-class', recipe, 'top1'),
        ('weights', dict(random_weights=True), '4-per-class', recipe, 'top1'),
        ('metric', {}, '4-per-class', recipe, 'mean_per_class'),
        ('recipe', {}, '4-per-class', recipe.with_changes(flip_p=0.1), 'top1'),
    ):
        steps[:] = []
        evaluate_semi_supervised(context(**arguments), labels, None, other, 1, metric)
        assert len(steps) >= 4, changed


def test_other_pixels_under_the_same_names_are_trained_on_anew(context, steps):
    for options in ((NO_VAL,), (NO_VAL, 'data.train.size=16')):  # the same digits, larger
        [row] = evaluate_semi_supervised(context(*options), '4-per-class', None, ONE)
    assert len(steps) == 10


def test_other_labels_for_the_same_list_are_trained_on_anew(context, steps, tmp_path, image_folder):
    root, rows = image_folder(classes=2, per_class=5, size=8), []
    files = [f'class_{c}/{i}.png' for c in (0, 1) for i in range(5)]
    (tmp_path / 'list.txt').write_text('\n'.join(files[2:8]))
    test = f'data.test={dict(type="FileList", path=str(tmp_path / "test.txt"), root=str(root))}'
    for flip in (0, 1):
        text = ''.join(f'{file}\t{int(file[6]) ^ flip}\n' for file in files)
        (tmp_path / 'train.txt').write_text(text)
        (tmp_path / 'test.txt').write_text(text)
        train = (
            f'data.train={dict(type="FileList", path=str(tmp_path / "train.txt"), root=str(root))}'
        )
        rows += evaluate_semi_supervised(
            context(train, test, NO_VAL), None, str(tmp_path / 'list.txt'), ONE
        )
    assert rows[0]['list_sha256'] == rows[1]['list_sha256'] and len(steps) == 2 * 2


# --- What a row says


def test_rows_say_all_and_the_last_has_mean_and_sample_deviation(context, tmp_path, capsys):
    s = context(seed=3)
    rows = evaluate_semi_supervised(
        s, '4-per-class', None, RECIPE, draws=3, metric='mean_per_class'
    )
    assert [
        json.loads(line) for line in (tmp_path / 'work' / 'results.jsonl').read_text().splitlines()
    ] == json.loads(json.dumps(rows))
    settings = [str(setting) for setting in RECIPE.settings(40)]
    for draw, row in enumerate(rows[:3]):
        kept = Predictions.load(row['predictions'])
        assert (
            kept.names.tolist() == names(s.source('test'))
            and kept.labels.tolist() == s.source('test').labels.tolist()
        )
        right = kept.predicted[:, 0] == kept.labels
        assert row['metric'] == 'semi_supervised_mean_per_class'
        assert row['value'] == pytest.approx(
            100 * np.mean([right[kept.labels == c].mean() for c in range(10)])
        )
        assert (row['n'], row['left_out'], row['draw'], row['seed']) == (60, 0, draw, 3)
        assert (row['labelled'], row['label_set']) == (40, '4-per-class')
        assert Path(row['list']).name == f'4-per-class_seed{3 + draw}.txt'
        assert hashlib.sha256(Path(row['list']).read_bytes()).hexdigest() == row['list_sha256']
        assert (
            row['setting'] in settings
            and row['recipe'] == RECIPE.to_builtin()
            and row['checkpoint_sha256'] == s.checkpoint_hash
        )
        assert describe_row(row).startswith(
            f'fine-tuned on 40 labels (4-per-class), whole network, SGD, {row["setting"]}, batch '
            '16; '
        )
    last, values = rows[3], [row['value'] for row in rows[:3]]
    assert (
        len(rows) == 4
        and last['metric'] == 'semi_supervised_mean_per_class_mean'
        and last['draws'] == 3
        and last['values'] == values
    )
    assert (
        last['value'] == pytest.approx(np.mean(values))
        and last['std'] == pytest.approx(np.std(values, ddof=1))
        and last['std'] > 0
    )
    assert (
        last['lists_sha256'] == [row['list_sha256'] for row in rows[:3]]
        and len(set(last['lists_sha256'])) == 3
    )
    assert (last['labelled'], last['label_set'], last['weights'], last['n'], last['step']) == (
        40,
        '4-per-class',
        'trained',
        60,
        7,
    )
    for key in (
        'recipe',
        'test_manifest',
        'checkpoint',
        'checkpoint_sha256',
        'versions',
        'config',
        'seed',
        'command',
        'network',
        'layer',
    ):
        assert last[key] == rows[0][key]
    out = capsys.readouterr().out
    assert 'draw 2 of 3' in out
    assert (
        f'mean of 3 draws: {np.mean(values):.2f} %, '
        f'sample standard deviation {np.std(values, ddof=1):.2f}' in out
    )


def test_draws_of_one_list_have_heads_and_orders_of_their_own(
    context, tmp_path, steps, monkeypatch
):
    orders, real = [], labelled_batches.ImageBatches.steps

    def spied(self, *rest):
        orders.append([])
        for x, labels in real(self, *rest):
            orders[-1] += labels.tolist()
            yield x, labels

    monkeypatch.setattr(labelled_batches.ImageBatches, 'steps', spied)
    write_list(tmp_path / 'list.txt', Digits('val'), np.arange(60))
    rows = evaluate_semi_supervised(context(), None, str(tmp_path / 'list.txt'), ONE, draws=3)
    assert (
        len(set(rows[3]['lists_sha256'])) == 1
        and rows[3]['label_set'] == 'list.txt'
        and len(steps) == len(set(steps)) == 3 * 7
    )
    assert len(orders) == 3 and len(set(map(tuple, orders))) == 3
    predicted = [Predictions.load(row['predictions']).predicted for row in rows[:3]]
    assert not any(np.array_equal(predicted[i], predicted[j]) for i in range(3) for j in range(i))


def test_one_draw_is_one_row_without_a_deviation(context):
    [row] = evaluate_semi_supervised(context(), '4-per-class', None, ONE)
    assert 'std' not in row and row['draw'] == 0 and row['metric'] == 'semi_supervised_top1'


def test_a_batch_larger_than_the_labels_is_all_of_them_with_its_learning_rate(context, steps):
    [row] = evaluate_semi_supervised(
        context(), '1-per-class', None, FINETUNE.with_changes(lrs=(2.56,), epochs=(3,))
    )
    assert (
        'lr 0.1, 3 epochs, batch 10; one setting' in describe_row(row) and len(steps) == 3
    )  # 2.56 * 10 / 256


@pytest.mark.parametrize('metric', ['top1', 'mean_per_class'])
def test_held_out_images_that_cannot_be_read_do_not_count_in_the_choice(
    context, tmp_path, monkeypatch, metric
):
    s = context()
    train, val, _ = labelled_images(s, '4-per-class', None, 0)
    read = np.setdiff1d(np.arange(40), (0, 7, 21))
    monkeypatch.setattr(
        finetune_module,
        'predict',
        lambda *_: (read, val.labels[read][:, None, None], [(i, 'broken') for i in (0, 7, 21)]),
    )
    _, choice = finetune(
        s, train, val, RECIPE, RECIPE.settings(40)[:2], tmp_path / 'folder', metric
    )
    assert (choice.holdout, choice.holdout_accuracy) == (37, 100)


def test_images_that_cannot_be_read_are_left_out_where_they_are(context, tmp_path):
    for split in ('train', 'test'):
        for c in range(2):
            for i in range(20):
                image(tmp_path / split / f'class_{c}' / f'{i:02}.png', 100 * c + i)
    options = [
        f'data.{split}={dict(type="ImageFolder", root=str(tmp_path / split))}'
        for split in ('train', 'test')
    ]
    s = context(*options, 'data.val=10')
    for name in (s.source('val').name(0), s.source('train').name(3)):
        (tmp_path / 'train' / name).write_bytes(b'broken')
    (tmp_path / 'test' / 'class_0' / '00.png').write_bytes(b'')
    (tmp_path / 'test' / 'class_1' / '07.png').write_bytes(b'broken')
    [row] = evaluate_semi_supervised(s, '100%', None, RECIPE)
    kept = Predictions.load(row['predictions'])
    assert (row['n'], row['left_out'], len(kept.names)) == (38, 2, 38)
    assert [
        int(name[6]) for name in kept.names
    ] == kept.labels.tolist() and 'class_0/00.png' not in kept.names
    assert row['value'] == pytest.approx(100 * np.mean(kept.predicted[:, 0] == kept.labels))


# --- Mistakes


@pytest.mark.parametrize(
    ('labels', 'draws', 'words'),
    [
        (
            None,
            1,
            'nothing says which images have labels; give --labels 1%, --labels 4-per-class or '
            '--list FILE',
        ),
        ('4-per-class', 0, '--draws is 0, but it must be at least 1'),
        ('4-per-class', -2, '--draws is -2'),
        ('0%', 1, 'is neither a share'),
        ('200%', 1, 'is neither a share'),
        ('5', 1, 'is neither a share'),
        ('x-per-class', 1, 'is neither a share'),
        ('1%', 1, '1% of 140 images are 1, fewer than the 10 classes'),
        ('15-per-class', 1, 'the smallest class has 14 images'),
    ],
)
def test_mistakes_get_a_sentence_and_nothing_is_written(context, tmp_path, labels, draws, words):
    with pytest.raises(ConfigError, match=words):
        evaluate_semi_supervised(context(), labels, None, RECIPE, draws)
    assert not [p for p in (tmp_path / 'work').rglob('*') if p.is_file()]


def test_an_unknown_metric_is_told_before_anything_is_trained(context, steps):
    for recipe in (ONE, RECIPE):
        with pytest.raises(ConfigError, match="the metric is 'top5': did you mean 'top1'"):
            evaluate_semi_supervised(context(), '4-per-class', None, recipe, metric='top5')
    assert not steps


def test_labels_and_a_list_at_once_are_refused(context, tmp_path):
    """The row would name one and hold the figures of the other."""
    write_list(tmp_path / 'list.txt', Digits('val'), np.arange(60))
    for labels in ('1%', 'nonsense'):
        with pytest.raises(ConfigError, match='--labels.*--list|--list.*--labels'):
            evaluate_semi_supervised(context(), labels, str(tmp_path / 'list.txt'), ONE)


def test_labels_of_one_class_and_data_without_test_images_are_refused(context, tmp_path, steps):
    digits = Digits('val')
    write_list(tmp_path / 'list.txt', digits, np.flatnonzero(digits.labels == 3))
    with pytest.raises(
        ConfigError, match='the 18 labelled images are all of one class; a classifier needs two'
    ):
        evaluate_semi_supervised(context(), None, str(tmp_path / 'list.txt'), ONE)
    with pytest.raises(
        ConfigError,
        match='the config has no data.test: all figures are measured on the test images',
    ):
        evaluate_semi_supervised(context('data.test=None'), '4-per-class', None, ONE)
    assert not steps


def test_a_list_that_leaves_classes_out_is_evaluated_on_all(context, tmp_path):
    digits = Digits('val')
    write_list(tmp_path / 'list.txt', digits, np.flatnonzero(np.isin(digits.labels, (3, 8))))
    [row] = evaluate_semi_supervised(context(), None, str(tmp_path / 'list.txt'), ONE)
    kept = Predictions.load(row['predictions'])
    assert (
        row['n'] == 60
        and set(kept.labels) == set(range(10))
        and row['value'] <= 100 * np.isin(kept.labels, (3, 8)).mean() + 15
    )


def test_a_list_whose_own_name_is_not_utf8_gets_its_figure(context, tmp_path, capsys):
    path = tmp_path / os.fsdecode(b'caf\xe9.txt')
    write_list(path, Digits('val'), np.arange(60))
    [row] = evaluate_semi_supervised(context(), None, str(path), ONE)
    assert 'on 60 test images' in capsys.readouterr().out and 'caf' in row['label_set']


def test_a_work_dir_that_cannot_be_written_gets_a_sentence(context, tmp_path):
    (tmp_path / 'work').write_text('a file')
    write_list(tmp_path / 'list.txt', Digits('val'), np.arange(60))
    for labels, path in (('4-per-class', None), (None, str(tmp_path / 'list.txt'))):
        with pytest.raises(ConfigError, match=str(tmp_path / 'work')):
            evaluate_semi_supervised(context(), labels, path, ONE)


def test_the_protocol_and_the_sweep_are_byols():
    assert (FINETUNE.lrs, FINETUNE.epochs, FINETUNE.batch_size) == (
        (0.005, 0.01, 0.02, 0.05, 0.1),
        (30, 50),
        1024,
    )
    assert (FINETUNE.momentum, FINETUNE.nesterov, FINETUNE.weight_decays, FINETUNE.shape) == (
        0.9,
        True,
        (0.0,),
        'cosine',
    )
