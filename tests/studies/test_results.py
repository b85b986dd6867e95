"""Statistics over seeds against scipy and numpy; what a folder holds and what is missing in it."""

import json
import math

import numpy as np
import pytest
from scipy import stats

from ssl_zoo.errors import ConfigError
from ssl_zoo.studies.results import read_study
from ssl_zoo.studies.statistics import (
    estimate,
    holm,
    least_distinguishable,
    paired_difference,
    rank_correlation,
    regret,
)
from ssl_zoo.studies.tuning_results import tuning_results

pytestmark = pytest.mark.quick


def test_mean_deviation_and_interval_are_those_of_scipy():
    values = [96.1, 97.4, 95.2, 96.9]
    found = estimate(values)
    low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
    assert (found.n, found.mean) == (4, pytest.approx(np.mean(values)))
    assert found.std == pytest.approx(np.std(values, ddof=1)) and (
        found.low,
        found.high,
    ) == pytest.approx((low, high))
    # By hand: t for 2 degrees of freedom is 4.302653.
    three = estimate([1.0, 2.0, 3.0])
    assert (three.low, three.high) == pytest.approx(
        (2 - 4.302653 / math.sqrt(3), 2 + 4.302653 / math.sqrt(3)), abs=1e-6
    )


def test_one_value_and_equal_values_have_no_interval():
    one, none, same = estimate([95.0]), estimate([]), estimate([0.3 - 0.2, 0.2 - 0.1, 0.1])
    assert (one.n, one.mean, one.std, one.low, one.high) == (
        1,
        95.0,
        None,
        None,
        None,
    ) and none is None
    assert (same.n, same.std, same.low, same.high) == (3, 0.0, None, None)
    assert estimate([1.0, math.nan, 2.0]).n == 2


def test_a_difference_is_paired_over_the_seeds_that_both_have():
    a, b = {0: 90.0, 1: 92.5, 2: 91.0, 7: 10.0}, {2: 90.0, 1: 90.0, 0: 89.5, 3: 99.0}
    found = paired_difference(a, b)
    test = stats.ttest_rel([90.0, 92.5, 91.0], [89.5, 90.0, 90.0])
    assert (found.n, found.mean, found.p) == (3, pytest.approx(4 / 3), pytest.approx(test.pvalue))
    assert (found.low, found.high) == pytest.approx(tuple(test.confidence_interval(0.95)))
    assert paired_difference(a, {5: 1.0}) is None
    one = paired_difference(a, {0: 89.0})
    assert (one.n, one.mean, one.p, one.low) == (1, 1.0, None, None)


def test_differences_that_are_equal_but_for_rounding_have_no_p():
    found = paired_difference({0: 0.1 + 0.2, 1: 1.3, 2: 2.3}, {0: 0.0, 1: 1.0, 2: 2.0})
    assert (found.n, found.std, found.p, found.low) == (
        3,
        0.0,
        None,
        None,
    ) and found.mean == pytest.approx(0.3)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx(
        [0.03, 0.06, 0.06, 0.02]
    )  # 3 x, 1 x raised to 2 x 0.03, 2 x, 4 x
    assert (
        holm([0.5, None, 0.9]) == pytest.approx([1.0, None, 1.0], nan_ok=True)
        and holm([None]) == [None]
        and holm([]) == []
    )


def test_arms_and_comparisons(study_folder):
    study = read_study(study_folder())
    assert [(arm.method, list(arm.runs), arm.trained) for arm in study.arms] == [
        ('BYOL', [0, 1, 2], True),
        ('A & <b>', [0, 1, 2], True),
        ('MoCo|v2', [0, 2], True),
        ('random weights', [0], False),
    ]
    first, second = study.against_reference('knn')
    ps = (
        stats.ttest_rel([93.5, 94, 95], [90, 92, 91]).pvalue,
        stats.ttest_rel([89, 90.5], [90, 91]).pvalue,
    )
    assert (first.arm.method, second.arm.method, second.difference.n) == ('A & <b>', 'MoCo|v2', 2)
    assert (first.difference.p, second.difference.p) == pytest.approx(ps)
    assert ps[0] < ps[1] and (first.p_holm, second.p_holm) == pytest.approx(
        (2 * ps[0], max(2 * ps[0], ps[1]))
    )
    assert study.against_baseline('knn') == []
    assert study.missing == ['MoCo|v2: not finished for seed 1'] and not study.problems
    assert study.arms[0].cost('train_seconds') == 61 and study.arms[3].cost('train_seconds') is None


def test_along_an_axis_a_method_is_compared_with_itself_and_with_the_reference_at_the_same_label(
    study_folder,
):
    figures = {
        ('BYOL', 0, '256'): 90.0,
        ('BYOL', 1, '256'): 92.0,
        ('BYOL', 0, '64'): 85.0,
        ('BYOL', 1, '64'): 86.0,
        ('SimCLR', 0, '256'): 91.0,
        ('SimCLR', 1, '256'): 92.5,
        ('SimCLR', 1, '64'): 80.0,
        ('MoCo', 0, '256'): 91.0,
        ('MoCo', 1, '256'): 92.5,
        ('MoCo', 0, '64'): 84.0,
        ('MoCo', 1, '64'): 80.0,
    }
    study = read_study(study_folder(figures, labels=('256', '64')))
    own = {c.arm.name: c.difference for c in study.against_baseline('knn')}
    assert own['BYOL, batch size 64'].mean == -5.5 and (
        own['SimCLR, batch size 64'].n,
        own['SimCLR, batch size 64'].mean,
    ) == (1, -12.5)
    other = {
        c.arm.name: (c.difference.mean, c.difference.n)
        for c in study.against_reference('knn')
        if c.arm.method == 'SimCLR'
    }
    assert other == {'SimCLR, batch size 256': (0.75, 2), 'SimCLR, batch size 64': (-6.0, 1)}
    assert study.missing == ['SimCLR, batch size 64: not finished for seed 0']
    adjusted = {c.arm.name: (c.difference.p, c.p_holm) for c in study.against_reference('knn')}
    p = stats.ttest_rel([91, 92.5], [90, 92]).pvalue
    assert adjusted['MoCo, batch size 256'] == pytest.approx((p, 2 * p)) and adjusted[
        'SimCLR, batch size 64'
    ] == (None, None)
    p = stats.ttest_rel([84, 80], [85, 86]).pvalue
    assert adjusted['MoCo, batch size 64'] == pytest.approx((p, p))  # the one test under its label


def test_what_failed_is_missing_or_odd_is_said(study_folder):
    out = study_folder(failed=[('MoCo|v2', 1, 'the loss is nan')], random_weights=False)
    (out / 'runs/torn/seed_0').mkdir(parents=True)
    (out / 'runs/torn/seed_0/record.json').write_text('{"kind": "run", "meth')
    path = out / 'runs/arm_1/seed_2/record.json'
    record = json.loads(path.read_text())
    path.write_text(json.dumps(dict(record, test_manifest='other')))
    path = out / 'runs/arm_1/seed_1/record.json'
    record = json.loads(path.read_text())
    path.write_text(json.dumps(dict(record, figures=dict(knn=95.0, linear=None))))
    study = read_study(out)
    assert [record['error'] for record in study.failures] == ['the loss is nan']
    assert study.missing == [
        'A & <b>: no linear for seed 1',
        'random weights: the untrained network is not measured',
    ]
    assert any('torn/seed_0' in text for text in study.problems) and any(
        'A & <b>, seed 2: its test images are not those of the other runs; it is left out' == text
        for text in study.problems
    )


def test_a_run_with_other_images_is_neither_averaged_nor_compared(study_folder):
    out = study_folder()
    for path in out.glob('runs/arm_*/seed_*/record.json'):
        record = json.loads(path.read_text())
        train = 'more' if record['seed'] == 2 and record['method'] == 'BYOL' else 'usual'
        data = dict(train=train, bank='b', val=None, test='t')
        path.write_text(json.dumps(dict(record, data=data)))
    study = read_study(out)
    assert list(study.arms[0].runs) == [0, 1]
    assert study.against_reference('knn')[0].difference.n == 2
    sentence = 'BYOL, seed 2: its training images are not those of the other runs; it is left out'
    assert study.problems == [sentence]
    assert study.missing == ['MoCo|v2: not finished for seed 1']


def test_runs_on_data_of_different_names_are_measured_and_a_warning_says_so(study_folder):
    """An axis may change the data: then its arms have images of their own."""
    figures = {('BYOL', seed, label): 90.0 for seed in (0, 1) for label in ('all', 'half')}
    out = study_folder(figures, labels=('all', 'half'))
    for path in out.glob('runs/arm_*/seed_*/record.json'):
        record = json.loads(path.read_text())
        label = record['axes']['batch size']
        config = dict(data=dict(train=label))
        path.write_text(json.dumps(dict(record, config=config, data=dict(test=label))))
    study = read_study(out)
    assert [len(arm.runs) for arm in study.trained] == [2, 2]
    [problem] = study.problems
    assert 'different test images (manifests all, half): do not compare them' in problem


def test_an_empty_study_and_none(study_folder, tmp_path):
    study = read_study(study_folder({}, methods=dict(BYOL={}), seeds=[0, 1], random_weights=False))
    assert [arm.runs for arm in study.arms] == [{}] and study.missing[
        0
    ] == 'BYOL: not finished for seeds 0, 1'
    (tmp_path / 'half').mkdir()
    (tmp_path / 'half/study.json').write_text('{"name": "x", "metrics": []')
    for folder in (tmp_path / 'none', tmp_path / 'half'):
        with pytest.raises(ConfigError, match='holds no study that can be read'):
            read_study(folder)


def test_the_chosen_trial_is_that_of_the_runs_and_an_edge_is_warned_of(study_folder):
    figures = {('BYOL', 0): 90.0, ('SimCLR', 0): 90.0, ('MoCo', 0): 90.0}
    trials = [
        ('BYOL', 2, 90.0),
        ('BYOL', 0.5, 95.0),
        ('BYOL', 1, 94.0),
        ('SimCLR', 0.5, 90.0),
        ('SimCLR', 1, 94.0),
        ('SimCLR', 2, None),
        ('MoCo', 0.5, 90.0),
        ('MoCo', 1, 93.0),
    ]
    out = study_folder(figures, trials=trials)
    byol, simclr, moco = tuning_results(read_study(out))
    assert [trial['factor'] for trial in byol.trials] == [0.5, 1, 2]
    assert (byol.chosen, byol.settled) == (
        1,
        True,
    ) and byol.warning == '4 had the higher k-NN accuracy on val'  # the runs took 8
    assert (simclr.chosen, simclr.warning) == (1, None)  # beyond it, one failed
    assert moco.chosen == 1 and 'is the highest that was tried' in moco.warning
    for path in out.glob('runs/*/*/record.json'):  # an axis may change the value, not the factor
        path.write_text(
            json.dumps(
                {**json.loads(path.read_text()), 'lr': dict(key='base_lr', value=3.0, factor=2)}
            )
        )
    assert tuning_results(read_study(out))[0].chosen == 2
    for path in out.glob('runs/*/*/record.json'):
        path.unlink()
    byol, *_ = tuning_results(read_study(out))
    assert (byol.chosen, byol.settled) == (
        0.5,
        False,
    ) and 'is the lowest that was tried' in byol.warning


def test_each_variant_has_its_trials_and_one_is_chosen(study_folder):
    trials = [('BYOL', 1, 80.0), ('BYOL', 2, 85.0), ('BYOL', 3, 90.0), ('BYOL', 4, 70.0)]
    out = study_folder({('BYOL', 0): 90.0}, trials=trials)
    for path in out.glob('trials/BYOL/*/record.json'):
        record = json.loads(path.read_text())
        variant = 'decay 0.8' if record['factor'] in (1, 2) else 'decay 0.9'
        path.write_text(json.dumps({**record, 'variant': variant}))
    for path in out.glob('runs/*/*/record.json'):
        path.unlink()
    first, second = tuning_results(read_study(out))
    assert (first.name, first.chosen, first.warning) == ('BYOL, decay 0.8', None, None)
    assert (second.name, second.chosen, second.settled) == ('BYOL, decay 0.9', 3, False)
    assert 'is the lowest that was tried' in second.warning


def test_runs_of_other_seeds_are_left_out_and_named(study_folder):
    """Runs of an earlier call with more seeds do not enter this study's figures."""
    study = read_study(
        study_folder({('BYOL', 0): 90.0, ('BYOL', 1): 92.0, ('BYOL', 7): 10.0}, seeds=[0, 1])
    )
    assert study.arms[0].estimate('knn').mean == 91.0 and study.arms[0].estimate('knn').n == 2
    assert any("BYOL: seed 7 is none of the study's" in text for text in study.problems)


def test_a_trial_that_diverged_is_no_choice(study_folder):
    out = study_folder(trials=[('BYOL', 0.5, 80.0), ('BYOL', 1, 85.0), ('BYOL', 2, 90.0)])
    path = out / 'trials/BYOL/2/record.json'
    path.write_text(path.read_text().replace('90.0', 'null'))
    study = read_study(out)
    for arm in study.trained:
        for run in arm.runs.values():
            run.pop('lr', None)
    [found] = tuning_results(study)
    assert found.chosen == 1 and found.warning is None


def test_rank_correlation_is_that_of_scipy_and_its_p_is_exact():
    rng = np.random.default_rng(0)
    for n in (4, 7, 12):
        x = rng.integers(0, 5, n).astype(float)  # with equal values
        y = rng.normal(size=n)
        found = rank_correlation(list(x), list(y))
        assert found.rho == pytest.approx(stats.spearmanr(x, y).statistic) and found.n == n
    in_order = rank_correlation(range(5), [1, 4, 9, 16, 25])
    assert in_order.rho == pytest.approx(1) and in_order.p == pytest.approx(2 / 120)
    against = rank_correlation([1, 2, 3], [3, 2, 1])
    assert against.rho == pytest.approx(-1) and against.p == pytest.approx(2 / 6)
    assert (
        rank_correlation([1, 1, 1], [1, 2, 3]) is None and rank_correlation([1, 2], [1, 2]) is None
    )


def test_least_distinguishable_correlations_are_those_of_published_tables():
    # Critical values of Spearman's coefficient, two-sided, 5 %.
    table = {3: None, 4: None, 5: 1.0, 6: 0.886, 7: 0.786}
    for n, least in table.items():
        found = least_distinguishable(n)
        assert found is None if least is None else found == pytest.approx(least, abs=1e-3)
    assert least_distinguishable(9) == pytest.approx(0.700, abs=0.02)  # of random orders


def test_regret_is_what_the_choice_loses():
    assert regret([1, 3, 2], [90.0, 80.0, 95.0]) == pytest.approx(15)
    assert regret([1, 2, 3], [90.0, 80.0, 95.0]) == 0
    assert regret([3, 3, 1], [90.0, 80.0, 95.0]) == pytest.approx(10)  # a tie: the mean of both
