"""The leaderboard: groups, ranks, rows left out; the page escapes text."""

import csv
import io
import json
import time
import timeit
from html.parser import HTMLParser

import numpy as np
import pytest

from ssl_zoo.errors import ConfigError
from ssl_zoo.evaluation.results import write_row
from ssl_zoo.printable import printable
from ssl_zoo.reports.leaderboard import build_leaderboard, letters, number_of
from ssl_zoo.reports.leaderboard_page import COLUMNS, page
from ssl_zoo.reports.leaderboard_text import as_csv, as_text

pytestmark = pytest.mark.quick

CONFIG = dict(
    method=dict(type='BYOL', proj_dim=16),
    epochs=30,
    base_lr=8.0,
    workers=1,
    seed=0,
    views=[dict(size=20), dict(size=20)],
    data=dict(val=40),
)


KNN = dict(
    name='knn', distance='cosine', bank=100, dtype='float32', index=None, k=20, temperature=0.07
)
LINEAR = dict(
    name='linear',
    optimizer='SGD',
    momentum=0.9,
    batch_size=1024,
    candidates=dict(lr=[0.1, 0.2, 0.3, 0.4, 0.5], weight_decay=[0.0], epochs=[80]),
    holdout=2000,
    retrain=False,
)


def row(value, seed=0, time='2026-01-01T00:00:00+00:00', config=None, **items):
    """A row as online evaluation writes it; with checkpoint_sha256 in ``items`` as the tools do."""
    return dict(
        dict(
            metric='knn_top1',
            value=value,
            weights='trained',
            protocol=KNN,
            chosen={},
            network='backbone',
            test='Digits',
            test_manifest='aa11',
            bank_data='cc33',
            n=360,
            step=589,
            seed=seed,
            seconds=60 + seed,
            time=time,
            checkpoint=f'runs/seed_{seed}/step.pth',
            versions=dict(device='cpu, 2 threads'),
            config={**CONFIG, 'seed': seed, **(config or {})},
        ),
        **items,
    )


@pytest.fixture
def boards(tmp_path):
    """Function: the board of these rows."""

    def make(*rows, **arguments):
        (tmp_path / 'results.jsonl').unlink(missing_ok=True)
        write_row(tmp_path, *rows)
        return build_leaderboard([str(tmp_path)], **arguments)

    return make


def test_rows_that_differ_in_the_seed_are_one_figure(boards):
    values = [97.5, 95.0, 96.25, 98.0]
    [f] = boards(
        *(row(value, seed, config=dict(workers=seed)) for seed, value in enumerate(values))
    ).entries
    assert (
        np.isclose(f.value, np.mean(values))
        and np.isclose(f.std, np.std(values, ddof=1))
        and f.seconds == 61.5
    )
    assert (f.runs, f.std_of, f.seeds, f.again, f.interval) == (4, '4 seeds', '0, 1, 2, 3', 0, None)
    assert f.checkpoint.split('\n') == [f'runs/seed_{s}/step.pth' for s in range(4)]


@pytest.mark.parametrize(
    'other',
    [
        dict(metric='linear_top1'),
        dict(weights='random weights'),
        dict(network='target'),
        dict(layer='projector'),
        dict(step=100),
        dict(protocol=dict(KNN, k=200)),
        dict(protocol=dict(KNN, dtype='float16')),
        dict(protocol=dict(KNN, index=dict(type='IVF', clusters=4, probes=2, bits=8))),
        dict(test_manifest='bb22'),
        dict(test='CIFAR10'),
        dict(bank_data='dd44'),
        dict(train_data='dd44'),
        dict(val_data='dd44'),
        dict(test_data='dd44'),
        dict(draw=1),
        dict(label_set='1%'),
        dict(preprocessing=dict(size=32)),
        dict(config=dict(base_lr=4.0)),
        dict(config=dict(epochs=60)),
        dict(config=dict(method=dict(type='SimCLR', proj_dim=16))),
    ],
)
def test_rows_that_differ_in_anything_else_are_two(other, boards):
    assert [f.runs for f in boards(row(90.0), row(80.0, 1, **other)).entries] == [1, 1]


def test_a_seed_measured_again_counts_once_and_the_newest_counts(boards, tmp_path):
    found = boards(
        row(90.0, 0, '2026-03-01T00:00:00+00:00'),
        row(10.0, 0, '2026-02-01T00:00:00+00:00'),
        row(94.0, 1),
    )
    [f] = found.entries
    assert (f.value, f.runs, f.again) == (
        92.0,
        2,
        1,
    ) and '1 rows left out: the same seed was measured again later' in as_text(found, 140)
    twice = build_leaderboard(
        [str(tmp_path), str(tmp_path / 'results.jsonl'), str(tmp_path / '..' / tmp_path.name)]
    )
    assert (twice.rows, twice.files) == (3, 1)


def test_the_seed_of_the_evaluation_is_not_that_of_the_training(boards):
    tool = dict(checkpoint_sha256='00')
    [f] = boards(*(row(90.0 + s, 0, config=dict(seed=s), **tool) for s in range(3))).entries
    assert (f.runs, f.seeds) == (3, '0, 1, 2')
    [f] = boards(
        row(90.0, 0, config=dict(seed=5), **tool), row(91.0, 1, config=dict(seed=5), **tool)
    ).entries
    assert (f.runs, f.seeds) == (2, '5 (evaluation 0), 5 (evaluation 1)')


def chosen(lr, holdout_accuracy, epochs=80):
    return dict(lr=lr, weight_decay=0.0, epochs=epochs, holdout_accuracy=holdout_accuracy)


@pytest.mark.parametrize(
    ('choices', 'sentence'),
    [
        (
            (chosen(0.2, 47.75), chosen(1.6e-05, 45.0)),
            'lr chosen, 80 epochs, batch 1024; chosen of 5 on 2,000 held-out images',
        ),
        (
            (chosen(0.2, 47.75), chosen(0.2, 45.0)),
            'lr 0.2, 80 epochs, batch 1024; chosen of 5 on 2,000 held-out images',
        ),
        (
            (chosen(0.2, 47.75), chosen(0.2, 47.75)),
            'lr 0.2, 80 epochs, batch 1024; chosen of 5 on 2,000 held-out images (47.75 %)',
        ),
    ],
)
def test_rows_whose_choices_differ_follow_one_protocol(boards, choices, sentence):
    rows = [row(90.0, seed, protocol=LINEAR, chosen=c) for seed, c in enumerate(choices)]
    [entry] = boards(*rows).entries
    assert entry.runs == 2
    assert entry.protocol == f'frozen encoder, random crops and flips, SGD, {sentence}'


@pytest.mark.parametrize(
    'change',
    [
        dict(momentum=0.8),
        dict(batch_size=512),
        dict(holdout=1000),
        dict(retrain=True),
        dict(candidates=dict(LINEAR['candidates'], lr=[0.1, 0.2, 0.3, 0.4, 0.6])),
    ],
)
def test_rows_with_another_parameter_follow_two_protocols(boards, change):
    same = chosen(0.2, 47.75)
    board = boards(
        row(90.0, 0, protocol=LINEAR, chosen=same),
        row(91.0, 1, protocol={**LINEAR, **change}, chosen=same),
    )
    assert [entry.runs for entry in board.entries] == [1, 1]


def test_the_recall_of_an_index_is_measured_not_a_parameter(boards):
    protocol = dict(KNN, index=dict(type='IVF', clusters=4, probes=2, bits=8))
    recalls = (dict(recall=97.25), dict(recall=98.5))
    rows = [row(90.0, seed, protocol=protocol, chosen=r) for seed, r in enumerate(recalls)]
    [entry] = boards(*rows).entries
    assert entry.protocol == (
        'weighted k-NN, k=20, T=0.07, cosine, bank of 100, IVF of 4 clusters, 2 probed, 8 bits, '
        'recall measured, as DINO'
    )


def test_a_row_whose_protocol_is_text_is_refused_with_a_sentence(boards):
    board = boards(row(90.0), row(95.0, 1, protocol='k=20, T=0.07, cosine, bank of 100'))
    assert [(entry.value, entry.runs) for entry in board.entries] == [(90.0, 1)]
    [sentence] = board.damaged
    assert sentence.endswith(
        "line 2: the protocol of the row is 'k=20, T=0.07, cosine, bank of 100', but it must be a "
        'dict with a name and parameters; evaluate the checkpoint again'
    )


def test_a_single_row_keeps_its_own_spread_and_interval(boards):
    [f] = boards(row(90.0, std=2.5, draws=5, ci95=[88.0, 92.0])).entries
    assert (f.std, f.std_of, f.interval, f.runs) == (2.5, '5 draws', (88.0, 92.0), 1)


def test_ranks_hold_within_a_metric_and_a_test_set(boards):
    found = boards(
        row(90.0),
        row(99.0, test_manifest='bb22'),
        row(95.0, config=dict(base_lr=4.0)),
        row(10.0, metric='linear_top1'),
        row(90.0, network='target'),
        row(97.0, test_manifest=None),
    )
    assert [(f.metric, f.mark, f.value, f.rank) for f in found.entries] == [
        ('knn_top1', 'A', 95.0, 1),
        ('knn_top1', 'A', 90.0, 2),
        ('knn_top1', 'A', 90.0, 2),
        ('knn_top1', 'B', 99.0, 1),
        ('knn_top1', '', 97.0, None),
        ('linear_top1', 'A', 10.0, 1),
    ]
    lines = as_text(found, 140).splitlines()
    assert [line for line in lines if ' on ' in line and line[0] != ' '][:4] == [
        'knn_top1 on test set A, Digits aa11, 360 images, bank cc33',
        'knn_top1 on test set B, Digits bb22, 360 images, bank cc33',
        'knn_top1 on Digits, images not known: not ranked, 360 images, bank cc33',
        'linear_top1 on test set A, Digits aa11, 360 images, bank cc33',
    ]
    assert (
        'Figures on different test sets do not compare: each set has its own lists and ranks.'
        in lines
    )
    assert all(len(line) <= 100 for line in as_text(found, 100).splitlines())
    assert [f.rank for f in boards(row(50.0), metrics=['knn_top1']).entries] == [1]


def test_label_budgets_and_other_numbers_of_images_have_ranks_of_their_own(boards):
    """1 % and 10 % of the labels are two tasks; so are all images and the readable ones."""
    few, many = dict(label_set='1%', labelled=128), dict(label_set='10%', labelled=1281)
    other, b = dict(config=dict(base_lr=4.0)), dict(test_manifest='bb22')
    found = boards(
        row(90.0, **many),
        row(40.0, **few),
        row(50.0, **few, **other),
        row(95.0, n=359, **few),
        row(80.0, **many, **other),
        row(70.0, labelled=128, label_set='mine.txt'),
        row(60.0),
        row(99.0, **few, **b),
    )
    expected = [
        (60.0, 1),
        (50.0, 1),
        (40.0, 2),
        (95.0, 1),
        (70.0, 1),
        (90.0, 1),
        (80.0, 2),
        (99.0, 1),
    ]
    assert [(f.value, f.rank) for f in found.entries] == expected
    shown = as_text(found, 140).splitlines()
    headings = [line for line in shown if ' on ' in line and line.startswith('knn')]
    start = 'knn_top1 on test set'
    assert headings == [
        f'{start} A, Digits aa11, 360 images, bank cc33',
        f'{start} A, Digits aa11, 360 images, bank cc33, trained on 128 labels (1%)',
        f'{start} A, Digits aa11, 359 images, bank cc33, trained on 128 labels (1%)',
        f'{start} A, Digits aa11, 360 images, bank cc33, trained on 128 labels (mine.txt)',
        f'{start} A, Digits aa11, 360 images, bank cc33, trained on 1,281 labels (10%)',
        f'{start} B, Digits bb22, 360 images, bank cc33, trained on 128 labels (1%)',
    ]
    lines = list(csv.DictReader(io.StringIO(as_csv(found.entries))))
    assert [(float(line['value']), int(line['rank'])) for line in lines] == expected
    assert [(line['label_set'], line['labelled']) for line in lines[:2]] == [
        ('', ''),
        ('1%', '128'),
    ]
    cells, n = Page(page(found)).cells, len(COLUMNS)
    assert [
        (int(cells[n * i]), 'trained on 128 labels (1%)' in cells[n * i + 1]) for i in range(4)
    ] == [(1, False), (1, True), (2, True), (1, True)]


def test_rows_with_other_images_are_neither_averaged_nor_ranked_together(boards):
    """More bank images change the bank's size in the protocol and the number of steps, too."""
    more = dict(bank_data='dd44', protocol=dict(KNN, bank=120), step=700)
    found = boards(row(90.0), row(80.0, 1), row(97.0, 2, **more), row(98.0, 3, **more))
    assert [(f.value, f.rank, f.runs) for f in found.entries] == [(85.0, 1, 2), (97.5, 1, 2)]
    assert found.split == 1
    sentence = '1 settings have rows with other images'
    assert sentence in as_text(found, 140)
    assert sentence in page(found)
    trained = boards(row(90.0, train_data='a'), row(80.0, 1, train_data='b'))
    assert [f.config for f in trained.entries] == ['train_data=a', 'train_data=b']
    same_images = boards(row(90.0), row(80.0, 1, step=700))
    assert same_images.split == 0


def test_a_row_of_an_older_version_says_that_its_bank_is_not_recorded(boards):
    found = boards(row(90.0), row(80.0, 1, bank_data=None))
    assert [f.rank for f in found.entries] == [1, 1]
    assert '360 images, bank not recorded\n' in as_text(found, 140)


def test_twice_as_many_settings_take_about_twice_the_time(boards):
    def seconds(n):
        rows = [row(90.0, config=dict(base_lr=i, key=dict(a=i, b=1))) for i in range(n)]
        found = []
        board_seconds = timeit.timeit(
            lambda: found.append(boards(*rows)), timer=time.process_time, number=1
        )
        page(found[0])
        as_text(found[0], 140)
        assert len(found[0].entries) == n
        return board_seconds

    seconds(10)
    assert seconds(1600) < 24 * seconds(200)  # linear: 8 times, quadratic: 64 times


def test_imported_weights_show_where_they_are_from_and_no_epochs(boards):
    """Their config's epochs are a placeholder, see ssl_zoo/interop/import_checkpoint.py."""

    def imported(**source):
        return dict(method=dict(type='Imported', source=source), epochs=1)

    found = boards(
        row(3.0, config=imported(file='a.pth', layout='moco', sha256='0', steps=0)),
        row(2.0),
        row(1.0, config=imported()),
    )
    assert [(f.method, f.epochs) for f in found.entries] == [
        ('Imported (moco, a.pth)', None),
        ('BYOL', 30),
        ('Imported (of unknown origin)', None),
    ]
    assert 'Imported (moco, a.pth)' in as_text(found, 140) and 'Imported (moco, a.pth)' in page(
        found
    )


def test_configs_of_a_method_are_told_apart(boards):
    a, b, c = boards(
        row(3.0),
        row(2.0, config=dict(base_lr=4.0, online_eval=dict(every=3))),
        row(1.0, config=dict(method=dict(type='DINO', proj_dim=4))),
    ).entries
    assert (a.config, b.config, c.config) == ('base_lr=8.0', 'base_lr=4.0', '')


def test_damaged_lines_are_counted_and_named(tmp_path):
    lines = [
        '{"metric": "knn',
        '[1]',
        '',
        '{"value": 3}',
        '{"metric": "knn_top1", "value": NaN}',
        '{"metric": "knn_top1", "value": true}',
        '{"metric": "knn_top1", "value": "90"}',
        '[' * 100000,
        '{"metric": "knn_top1", "value": 1' + '0' * 400 + '}',
        json.dumps(row(90.0)),
        '{"metric": "x", "value": 1, "config": 3, "seed": "a", "versions": [], "ci95": [1], "n": '
        '{}}',
        '\x00\x1b[2J',
    ]
    path = tmp_path / 'results.jsonl'
    path.write_text('\n'.join(lines))
    found = build_leaderboard([str(path)])
    assert (found.rows, len(found.entries)) == (2, 2)
    assert [line.split(', line ')[1].split(':')[0] for line in found.damaged] == [
        '1',
        '2',
        '4',
        '5',
        '6',
        '7',
        '8',
        '9',
        '12',
    ]
    assert found.damaged[0] == f'{path}, line 1: not JSON' and found.damaged[3].endswith(
        'no finite value'
    )
    shown = as_text(found, 140)
    assert (
        '9 damaged lines left out' in shown
        and '2 figures of 2 rows in 1 files' in shown
        and '\x1b' not in shown
    )
    assert '9 damaged lines are left out' in page(found) and f'{path}, line 12' in page(found)


def test_nothing_to_show_gets_a_sentence(tmp_path):
    with pytest.raises(
        ConfigError,
        match='there are no figures in .*: 0 files results.jsonl; train something first',
    ):
        build_leaderboard([str(tmp_path)])
    (tmp_path / 'results.jsonl').write_text('{\n')
    with pytest.raises(ConfigError, match='1 files results.jsonl, and 1 damaged lines'):
        build_leaderboard([str(tmp_path)])
    with pytest.raises(ConfigError, match='there is nothing at .*nowhere'):
        build_leaderboard([str(tmp_path / 'nowhere')])
    write_row(tmp_path, row(1.0))
    with pytest.raises(ConfigError, match="no row has the metric 'knn_top'.*knn_top1"):
        build_leaderboard([str(tmp_path)], ['knn_top'])


class Page(HTMLParser):
    """Parses a page.

    Attributes:
        tags: how often each begins.
        cells: the text of each td.
        attributes: of each tr.
    """

    def __init__(self, page):
        super().__init__()
        self.tags, self.cells, self.rows, self.inside = {}, [], [], False
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags[tag] = self.tags.get(tag, 0) + 1
        if tag == 'td':
            self.cells.append('')
        if tag == 'tr':
            self.rows.append(dict(attributes))
        self.inside = tag == 'td' or self.inside

    def handle_endtag(self, tag):
        self.inside = self.inside and tag != 'td'

    def handle_data(self, data):
        if self.inside:
            self.cells[-1] += data


def test_the_page_shows_text_as_text(boards):
    evil = '"\'><script>alert(1)</script><img src=x onerror=alert(2)>&amp;\ud800'
    clean = Page(page(boards(row(1.0, command='c'))))
    rows = row(
        1.0,
        metric=evil,
        protocol=dict(name=evil),
        weights=evil,
        network=evil,
        layer=evil,
        test=evil,
        test_manifest=evil,
        checkpoint=evil,
        command=evil,
        versions=dict(device=evil),
        config=dict(method=dict(type=evil)),
    )
    shown = Page(page(boards(rows, row(2.0, config=dict(method=dict(type=evil), base_lr=evil)))))
    assert 'img' not in shown.tags and shown.tags['script'] == clean.tags['script'] == 1
    names = [column.title for column in COLUMNS]
    assert len(shown.cells) == 2 * len(names)
    for name in (
        'test set',
        'metric',
        'method',
        'weights, network, layer',
        'protocol',
        'device',
        'checkpoint, command',
    ):
        assert any(
            printable(evil) in cell for cell in shown.cells[names.index(name) :: len(names)]
        ), name


def test_the_page_is_whole_and_marks_its_test_sets(boards):
    html = page(boards(row(90.0), row(99.0, test_manifest='bb22')))
    assert 'http://' not in html and 'https://' not in html and "default-src 'none'" in html
    marked = Page(html)
    assert [r['data-mark'] for r in marked.rows[1:]] == ['A', 'B'] and marked.tags['th'] == len(
        COLUMNS
    )
    assert '<p id="marks" class="box warning" role="status">' in html
    assert '<p id="marks" class="box warning" role="status" hidden>' in page(boards(row(90.0)))


def test_csv(boards):
    entries = boards(
        row(90.0, protocol=dict(name='=1+1'), chosen={}, ci95=[1.0, 2.0]),
        row(80.0, 0, network='a,"b"\nc'),
    ).entries
    a, b = csv.DictReader(io.StringIO(as_csv(entries)))
    assert (float(a['value']), a['interval_low'], a['interval_high'], a['protocol'], a['rank']) == (
        90.0,
        '1.0',
        '2.0',
        "'=1+1",
        '1',
    )
    assert (b['network'], b['std'], b['interval_low'], b['mark']) == ('a,"b"\nc', '', '', 'A')


def test_letters():
    assert [letters(i) for i in (0, 25, 26, 51, 52, 701, 702)] == [
        'A',
        'Z',
        'AA',
        'AZ',
        'BA',
        'ZZ',
        'AAA',
    ]


def test_number_of_is_the_inverse_of_letters():
    assert [number_of(letters(i)) for i in range(800)] == list(range(800))


def test_the_figures_show_number_and_hash_of_their_labels_and_their_warnings(tmp_path):
    few = row(70.0, bank_data='ee55', bank_images=13, warnings=['3 <test> images are of no class'])
    many = row(80.0, bank_images=1257, warnings=[])
    write_row(tmp_path, few, many, row(60.0, seed=1, bank_data='ff66', warning='an older sentence'))
    board = build_leaderboard([str(tmp_path)])
    assert [entry.rank for entry in board.entries] == [1, 1, 1]
    text = as_text(board, 300)
    assert 'bank ee55 of 13 labels' in text and 'bank cc33 of 1,257 labels' in text
    assert 'Ranks hold only within equal training labels' in text
    assert '  knn_top1, BYOL: 3 <test> images are of no class' in text
    assert '  knn_top1, BYOL: an older sentence' in text
    shown = page(board)
    assert 'warning: 3 &lt;test&gt; images are of no class' in shown
    assert 'bank ee55 of 13 labels' in shown


def test_ranks_hold_within_equal_lists_of_labels(boards):
    """A list of the same number of labels, under the same name, is another training set."""
    few = dict(label_set='4-per-class', labelled=40)
    a = dict(few, list_sha256='a1' * 32)
    b = dict(few, list_sha256='b2' * 32)
    rows = [row(90.0, 0, **a), row(80.0, 1, **b), row(70.0, step=100, **a)]
    assert len({found.list_sha256 for found in boards(*rows[1:]).entries}) == 2
    assert [found.rank for found in boards(*rows[1:]).entries] == [1, 1]
    averaged, single = boards(*rows).entries  # over two seeds, each with a list of its own
    assert (averaged.runs, averaged.rank, single.rank) == (2, 1, 1)
    again = boards(*rows[:2], row(60.0, 0, step=7, **b), row(50.0, 1, step=7, **a)).entries
    assert [(found.value, found.rank) for found in again] == [(85.0, 1), (55.0, 2)]
    mean = row(75.0, metric='knn_top1', step=9, lists_sha256=['a1' * 32, 'b2' * 32], **few)
    assert {found.rank for found in boards(*rows[:2], mean).entries} == {1, 2}
    text = as_text(boards(*rows[1:]), 300)
    assert 'trained on 40 labels (4-per-class), list b2b2b2b2' in text
    assert 'Ranks hold only within equal training labels' in text
