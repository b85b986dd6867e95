"""The report of a study: one page without a network, the same figures in all formats."""

import csv
import html
import io
import json
import re

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from ssl_zoo.data.image_sheet import ImageSheet, SheetCell, SheetColumn, as_jpeg
from ssl_zoo.errors import ConfigError
from ssl_zoo.reports import tsne
from ssl_zoo.reports.curves import find_keys, mean_series, series
from ssl_zoo.reports.study import plots, report_figures
from ssl_zoo.reports.study.label_free import TITLE, candidates, label_free_table
from ssl_zoo.reports.study.report import write_report
from ssl_zoo.reports.study.reproduce import split_shared
from ssl_zoo.reports.study.tables import (
    accuracy_table,
    format_probability,
    reference_table,
    three_digits,
)
from ssl_zoo.reports.study.text_table import TextTable
from ssl_zoo.studies.results import read_study


@pytest.fixture
def without_tsne(monkeypatch):
    monkeypatch.setattr(tsne, 'tsne', lambda embeddings: embeddings.features[:, :2])


@pytest.fixture
def without_figures(monkeypatch):
    monkeypatch.setattr(report_figures.ReportFigures, '_save_plot', lambda *_, **__: [])


def saved_map(path, n=30):
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 3
    features = np.eye(8)[labels] + rng.normal(0, 0.1, (n, 8))
    np.savez(
        path,
        features=features.astype(np.float32),
        labels=labels,
        classes=np.array(['cat', '<dog>', 'ship']),
        thumbnails=rng.integers(0, 256, (n, 6, 6, 3)).astype(np.uint8),
    )


def rows_of(path):
    return list(csv.DictReader(io.StringIO(path.read_text())))


def texts_of(page):
    return [
        html.unescape(re.sub('<br>', '\n', cell))
        for cell in re.findall(r'<t[dh][^>]*>(.*?)</t[dh]>', page)
    ]


@pytest.fixture
def whole_study(study_folder, without_tsne):
    """The folder of a study with tuning, a failed run, a map and views."""
    trials = [('BYOL', 0.5, 90.0), ('BYOL', 1, 95.0), ('BYOL', 2, None)]
    failed = [('MoCo|v2', 1, 'no <script>alert(1)</script>')]
    metrics = [dict(key='knn', name='k-NN')]
    out = study_folder(trials=trials, failed=failed, metrics=metrics)
    saved_map(out / 'runs/arm_0/seed_0/map.npz')
    cell = SheetCell(Image.new('RGB', (9, 9)))
    sheet = ImageSheet([SheetColumn('image', 112)], [[cell]] * 8)
    sheet.save_png(out / 'runs/arm_0/seed_0/views.png')
    return out


def test_the_page_is_one_file_that_loads_nothing(whole_study):
    path = write_report(whole_study)
    page = path.read_text()
    assert path == whole_study / 'report' / 'index.html'
    assert path.stat().st_size < 1_000_000
    links = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert links
    assert all(link.startswith(('data:image/', '#')) for link in links)
    anchors = re.findall(r' id="([^"]*)"', page)
    assert len(set(anchors)) == len(anchors)
    assert {link[1:] for link in links if link[0] == '#'} <= set(anchors)
    assert not re.search(r'@import|url\(|<script|<link|<study>|<b>|<data>', page)
    for text in (
        'Toy &lt;study&gt;',
        'Which &amp; why?',
        'Little &lt;data&gt;',
        'A &amp; &lt;b&gt;',
        'no &lt;script&gt;alert(1)&lt;/script&gt;',
        'python tools/study.py toy',
        '8 of 9 runs are finished, 1 failed.',
    ):
        assert text in page
    images = re.findall(r'<img src="data:([^;]*);base64,[^"]*" alt="([^"]+)">', page)
    assert len(images) == page.count('<img')
    assert {kind for kind, _ in images} == {'image/svg+xml', 'image/png', 'image/jpeg'}


@pytest.mark.long
def test_the_figures_are_files_too(whole_study):
    folder = write_report(whole_study).parent
    assert {
        'accuracy.png',
        'accuracy.svg',
        'accuracy_knn.svg',
        'cost_knn.svg',
        'tuning.svg',
        'curves_byol.svg',
        'views_byol.jpg',
        'map_byol.png',
        'neighbours_byol.jpg',
        'table.md',
        'table.csv',
        'runs.csv',
        'val_knn.svg',
    } <= {file.name for file in folder.iterdir()}
    with Image.open(folder / 'views_byol.jpg') as views:
        assert views.size == (112 + 2 * 4, 16 + 4 + 4 * (112 + 4))  # four of eight rows


def test_the_csv_of_arms(study_folder, without_figures):
    out = study_folder()
    write_report(out)
    rows = rows_of(out / 'report/table.csv')
    assert len(rows) == 8
    assert [(row['method'], row['metric']) for row in rows[:2]] == [
        ('BYOL', 'knn'),
        ('A & <b>', 'knn'),
    ]
    values = [93.5, 94, 95]
    expected = dict(
        n='3',
        mean=f'{np.mean(values):.2f}',
        std=f'{np.std(values, ddof=1):.2f}',
        to_reference=f'{np.mean([3.5, 2, 4]):+.2f}',
        to_reference_pairs='3',
    )
    assert expected.items() <= rows[1].items()


def test_page_and_markdown_have_the_figures_of_the_csv(study_folder, without_figures):
    out = study_folder()
    write_report(out)
    markdown = (out / 'report/table.md').read_text()
    cells = texts_of((out / 'report/index.html').read_text())
    for row in rows_of(out / 'report/table.csv'):
        lines = [row['mean'] + (f' ({row["std"]})' if row['std'] else '')]
        lines += [f'{row["low"]} to {row["high"]}'] if row['low'] else []
        assert '\n'.join(lines) in cells
        assert '<br>'.join(lines) in markdown
        if row['to_reference']:
            lines = [
                row['to_reference'],
                f'{row["to_reference_low"]} to {row["to_reference_high"]}',
                f'p {row["to_reference_p"]}, adjusted {row["to_reference_p_holm"]}',
            ]
            lines += ['2 pairs'] if row['to_reference_pairs'] == '2' else []
            assert '\n'.join(lines) in cells
            assert '<br>'.join(lines) in markdown
        if row['minutes']:
            assert row['minutes'] in cells
            assert f'| {row["minutes"]} |' in markdown
    assert '| A &amp; &lt;b&gt; |' in markdown
    assert '| MoCo\\|v2 |' in markdown
    assert '| random weights | 70.00 | 71.00 | 1 |' in markdown


def test_the_csv_of_runs(study_folder, without_figures):
    out = study_folder()
    write_report(out)
    runs = rows_of(out / 'report/runs.csv')
    assert len(runs) == 9
    assert [(run['method'], run['seed'], float(run['knn'])) for run in runs[:2]] == [
        ('BYOL', '0', 90.0),
        ('BYOL', '1', 92.0),
    ]
    assert runs[0]['folder'] == 'runs/arm_0/seed_0'
    assert runs[0]['peak_memory_bytes'] == str(2**29)


def test_costs_and_comparisons_in_the_tables(study_folder):
    study = read_study(study_folder())
    table = accuracy_table(study)
    assert table.rows[0][3:] == ['3', '8', '2', '1.02', '500', '512', '0.0169', '1.20']
    assert table.head[-2] == 'core-hours'
    assert reference_table(study).rows[0][0] == 'A & <b>'


def test_along_an_axis(study_folder, without_figures):
    values = {
        (method, seed, label): 90.0 + seed - drop * (1 + seed / 10)
        for method in ('BYOL', 'SimCLR')
        for seed in (0, 1, 2)
        for label, drop in (('256', 0), ('64', 4))
    }
    out = study_folder(values, labels=('256', '64'))
    page = write_report(out).read_text()
    assert 'Differences to batch size 256, same method' in page
    rows = rows_of(out / 'report/table.csv')
    [row] = [
        row
        for row in rows
        if (row['method'], row['batch size'], row['metric']) == ('BYOL', '64', 'knn')
    ]
    assert (row['to_baseline'], row['to_baseline_pairs'], row['to_reference']) == ('-4.40', '3', '')
    assert any(cell.startswith('-4.40\n') for cell in texts_of(page))
    study = read_study(out)
    drawn = plots.plot_along_axis(study, 'batch size', study.metrics[0])
    means = [line.get_ydata() for line in drawn.axes[0].lines if line.get_label() == 'SimCLR']
    seeds = [
        sorted(line.get_ydata()) for line in drawn.axes[0].lines if line.get_fillstyle() == 'none'
    ]
    assert np.allclose(means, [[0, -4.4]]) and np.allclose(seeds, [[0, 0, 0], [-4.8, -4.4, -4]] * 2)


def test_the_figure_of_accuracy_shows_seeds_means_intervals_and_random_weights(study_folder):
    study = read_study(study_folder())
    [axis] = plots.plot_accuracy(study, study.metrics[:1]).axes
    assert [text.get_text() for text in axis.get_yticklabels()] == [
        'MoCo|v2',
        'BYOL',
        'A & <b>',
    ]  # best on top
    seeds, bar, mean = (axis.lines[i].get_xdata() for i in (3, 4, 5))
    half = 4.302653 / 3**0.5  # t for 2 degrees of freedom, deviation 1
    assert (
        sorted(seeds) == [90, 91, 92]
        and mean[0] == 91
        and list(bar) == pytest.approx([91 - half, 91 + half])
    )
    assert axis.lines[-1].get_xdata() == [70, 70]
    assert axis.get_xlim()[0] < 70 and 95 < axis.get_xlim()[1] <= 101


def test_a_study_that_has_hardly_begun(study_folder):
    out = study_folder({}, methods=dict(BYOL={}, MoCo={}), seeds=[0], random_weights=False)
    page = write_report(out).read_text()
    assert (
        'No run is finished yet.' in page
        and '0 of 2 runs are finished.' in page
        and 'not measured' in page
    )
    assert 'BYOL: not finished for seed 0' in page and '<img' not in page


def test_one_seed_and_files_that_cannot_be_read(study_folder, without_figures):
    out = study_folder({('BYOL', 0): 90.0, ('MoCo', 0): 91.0}, log=False)
    (out / 'runs/arm_0/seed_0/map.npz').write_bytes(b'torn')
    (out / 'runs/arm_0/seed_0/views.png').write_bytes(b'torn')
    page = write_report(out).read_text()
    for text in (
        'BYOL: map.npz cannot be read',
        'BYOL: views.png cannot be read',
        'BYOL, seed 0: no log.jsonl with a curve',
    ):
        assert text in page
    assert '+1.00\n' not in texts_of(page) and '+1.00' in texts_of(page)  # no interval, no p
    with pytest.raises(ConfigError, match='holds no study that can be read'):
        write_report(out / 'runs')


@pytest.mark.long
def test_a_report_is_the_same_each_time(study_folder):
    out = study_folder({('BYOL', 0): 90.0}, metrics=[dict(key='knn', name='k-NN')])
    first = write_report(out).read_bytes()
    assert write_report(out).read_bytes() == first


def test_neighbours_against_a_loop(tmp_path):
    saved_map(tmp_path / 'map.npz')
    found = tsne.EmbeddingMap.load(tmp_path / 'map.npz')
    queries = tsne.first_of_each_class(found.labels, 2)
    assert queries.tolist() == [0, 1]
    nearest = tsne.nearest_neighbours(found, queries, 4)
    for query, row in zip(queries, nearest, strict=True):
        cosine = [
            np.dot(found.features[query], f)
            / np.linalg.norm(found.features[query])
            / np.linalg.norm(f)
            for f in found.features
        ]
        others = sorted((i for i in range(30) if i != query), key=lambda i: -cosine[i])
        assert row.tolist() == others[:4]
    with Image.open(
        io.BytesIO(as_jpeg(tsne.neighbours_sheet(found, queries, nearest).draw()))
    ) as sheet:
        assert sheet.format == 'JPEG' and sheet.width > 5 * 54
    places = tsne.tsne(found)
    assert (
        places.shape == (30, 2)
        and np.array_equal(places, tsne.tsne(found))
        and found.perplexity == pytest.approx(29 / 3)
    )


@pytest.mark.parametrize(
    'changes',
    [
        dict(features=np.zeros((29, 4))),
        dict(labels=np.full(30, 3)),
        dict(features=np.full((30, 4), np.nan)),
        dict(thumbnails=np.zeros((30, 6, 6, 3))),
    ],
)
def test_a_map_of_other_shapes_is_refused(tmp_path, changes):
    saved_map(tmp_path / 'map.npz')
    with np.load(tmp_path / 'map.npz') as file:
        np.savez(tmp_path / 'odd.npz', **{**file, **changes})
    with pytest.raises(ValueError):
        tsne.EmbeddingMap.load(tmp_path / 'odd.npz')


def test_numbers_and_cells():
    assert [format_probability(p) for p in (None, 0.00001234, 0.00051, 0.0123, 0.5)] == [
        '',
        '1.2e-05',
        '0.0005',
        '0.012',
        '0.50',
    ]
    assert [three_digits(v) for v in (0.01694, 1.0, 99.96, 1234.5)] == [
        '0.0169',
        '1.00',
        '100',
        '1,234',
    ]
    table = TextTable('T|t', 'a *b*', ['x', 'y'], [['1|2', 'a\nb']])
    assert (
        table.as_markdown()
        == '### T\\|t\n\n| x | y |\n|---|---|\n| 1\\|2 | a<br>b |\n\na \\*b\\*\n'
    )
    assert split_shared([{'a': '1', 'b': '2'}, {'a': '1', 'b': '3', 'c': '4'}]) == (
        {'a': '1'},
        [{'b': '2'}, {'b': '3', 'c': '4'}],
    )


def test_series_and_their_mean():
    log = [
        {'step': 1, 'epoch': 0.5, 'val/knn': 90.0},
        {'step': 2, 'epoch': 1.0, 'train/loss': 3.0},
        {'step': 3, 'epoch': 1.5, 'val/knn': 92},
        {'step': 3, 'epoch': 1.5, 'val/knn': 93.0},
        {'step': 4, 'epoch': 2, 'val/knn': json.loads('NaN')},
    ]
    assert series(log, 'val/knn') == {0.5: 90.0, 1.5: 93.0}
    assert (
        mean_series([{0.5: 90.0, 1.5: 93.0}, {0.5: 92.0, 2.5: 1.0}]) == {0.5: 91.0}
        and mean_series([]) == {}
    )
    assert find_keys(['loss', 'val/knn'], [log]) == ['train/loss', 'val/knn']


def with_looks(out, logs):
    """Write the logs of the runs of seeds 0, 1 ...: (epoch, k-NN, LiDAR, uniformity) of a look."""
    for seed, looks in enumerate(logs):
        rows = []
        for epoch, knn, lidar, uniformity in looks:
            row = {'step': 10 * epoch, 'epoch': epoch, 'val/knn': knn, 'val/lidar': lidar}
            rows.append(dict(row, **{'val/uniformity': uniformity, 'val/rankme': float('nan')}))
            rows.append({'step': 10 * epoch + 5, 'epoch': epoch + 0.5, 'train/loss': 1.0})
        path = out / f'runs/arm_0/seed_{seed}/log.jsonl'
        path.write_text(''.join(json.dumps(row) + '\n' for row in rows))


def test_measures_without_labels_against_the_accuracy(study_folder):
    figures = {('BYOL', seed): knn for seed, knn in enumerate((90.0, 80.0, 85.0))}
    out = study_folder(figures)
    with_looks(
        out,
        [
            [(0, 10, 99, 0), (1, 50, 5, -1), (2, 60, 7, -2), (3, 70, 6, -3)],
            [(0, 10, 99, 0), (1, 40, 2, -1), (2, 50, 3, -2), (3, 30, 4, -2.5)],
            [(0, 10, 99, 0), (1, 45, 4, -1), (2, 55, 5, -1.5), (3, 65, 5, -2)],
        ],
    )
    study = read_study(out)
    runs, looks = candidates(study, 'linear')
    assert [(run.accuracy, run.values['lidar']) for run in runs] == [(91, 6), (81, 4), (86, 5)]
    assert [[look.accuracy for look in of_run] for of_run in looks] == [
        [50, 60, 70],
        [40, 50, 30],
        [45, 55, 65],
    ]
    table = label_free_table(study)
    row = {cells[0].split(' (')[0]: cells[1:] for cells in table.rows}
    # Three runs in the order of LiDAR: 2 of the 6 orders are as extreme.
    assert row['LiDAR'][:2] == ['+1.00\np 0.33, n = 3', '0.00']
    assert row['uniformity'][0] == '+0.50\np 1.00, n = 3'  # -3, -2.5 and -2: low is good
    assert row['uniformity'][1] == '0.00'
    within = [
        stats.spearmanr(x, y).statistic
        for x, y in (
            ([5, 7, 6], [50, 60, 70]),
            ([2, 3, 4], [40, 50, 30]),
            ([4, 5, 5], [45, 55, 65]),
        )
    ]
    expected = f'{np.mean(within):+.2f} ({min(within):+.2f} to {max(within):+.2f})'
    assert row['LiDAR'][3] == f'{expected}\n3 runs of 3 looks'
    # It chooses 60 of 70, 30 of 50, and of two equal looks 55 and 65 of 65.
    assert row['LiDAR'][4] == f'{(10 + 20 + 5) / 3:.2f}\nat most 20.00'
    assert row['RankMe'] == ['not measured', '', 'not measured', '', '']
    assert 'n = 3 runs: no coefficient can be told from chance' in table.note
    assert 'loses 5.00 points on average' in table.note


def test_without_looks_there_is_no_table_of_measures(study_folder, without_figures):
    out = study_folder({('BYOL', 0): 90.0}, log=False)
    assert label_free_table(read_study(out)) is None
    assert TITLE not in write_report(out).read_text()
