"""Logistic regression: the objective minimised, a sweep against fits, resumed sweeps, labels."""

import numpy as np
import pytest
from scipy.optimize import minimize

from ssl_zoo.errors import ConfigError
from ssl_zoo.evaluation import logistic
from ssl_zoo.evaluation.logistic import fit, predict, sweep
from ssl_zoo.storage.atomic import write_or_raise

pytestmark = pytest.mark.quick


def some_data(n=90, dim=5, classes=4, seed=0, spread=1.0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    values = rng.normal(size=(n, dim)) + spread * rng.normal(size=(classes, dim))[labels]
    return values.astype(np.float32), labels


def objective(w, b, x, labels, strength):
    """Value and gradients of the sum over images of the cross-entropy plus strength / 2 |w|^2."""
    logits = x @ w.T + b
    log_p = logits - logits.max(1, keepdims=True)
    log_p = log_p - np.log(np.exp(log_p).sum(1, keepdims=True))
    targets = np.eye(len(w))[labels]
    error = np.exp(log_p) - targets
    return (
        -(targets * log_p).sum() + strength / 2 * (w**2).sum(),
        error.T @ x + strength * w,
        error.sum(0),
    )


def minimum(x, labels, strength):
    """(classes, D) weights and (classes,) biases at the minimum."""
    x, classes = x.astype(np.float64), labels.max() + 1
    cut = classes * x.shape[1]

    def both(theta):
        value, dw, db = objective(
            theta[:cut].reshape(classes, -1), theta[cut:], x, labels, strength
        )
        return value, np.concatenate([dw.ravel(), db])

    found = minimize(
        both,
        np.zeros(cut + classes),
        jac=True,
        method='BFGS',
        options=dict(gtol=1e-7, maxiter=10_000),
    )
    return found.x[:cut].reshape(classes, -1), found.x[cut:]


@pytest.mark.parametrize('strength', [100.0, 1.0, 0.01])
def test_a_fit_is_the_minimum_of_the_written_objective(strength):
    values, labels = some_data()
    model, (w, b) = fit(values, labels, strength), minimum(values, labels, strength)
    x = values.astype(np.float64)
    value, dw, db = objective(model.coef_, model.intercept_, x, labels, strength)
    assert max(np.abs(dw).max(), np.abs(db).max()) < 1e-4 * len(x) and np.abs(db).max() < 0.02
    assert value == pytest.approx(objective(w, b, x, labels, strength)[0], rel=1e-5)
    np.testing.assert_allclose(model.coef_, w, atol=0.02 * np.abs(w).max())
    np.testing.assert_allclose(
        model.intercept_ - model.intercept_.mean(), b - b.mean(), atol=0.02 * np.abs(w).max()
    )
    scores = x @ w.T + b
    clear = np.diff(np.sort(scores, axis=1)[:, -2:], axis=1)[:, 0] > 0.05
    assert clear.sum() > 60 and (predict(model, values)[clear, 0] == scores.argmax(1)[clear]).all()


def test_two_classes_too():
    values, labels = some_data(classes=2)
    model, x, strength = fit(values, labels, 1.0), values.astype(np.float64), 1.0

    def value(theta):  # one weight vector for the difference of the two
        return (
            np.logaddexp(0, -(2 * labels - 1) * (x @ theta[:-1] + theta[-1])).sum()
            + strength / 2 * (theta[:-1] ** 2).sum()
        )

    found = minimize(value, np.zeros(6), method='BFGS', options=dict(gtol=1e-6)).x
    np.testing.assert_allclose(np.append(model.coef_, model.intercept_), found, atol=5e-3)
    best = predict(model, values)
    assert best.shape == (90, 2) and (best[:, 0] == (x @ found[:-1] + found[-1] > 0)).mean() > 0.98
    assert (best.sum(1) == 1).all()


def test_the_penalty_is_on_weights_and_not_on_the_bias():
    values, labels = some_data(n=60, classes=3)
    labels[:40] = 2
    model = fit(values, labels, 1e6)
    shares = np.bincount(labels) / 60
    p = np.exp(model.intercept_) / np.exp(model.intercept_).sum()
    assert np.abs(model.coef_).max() < 1e-3
    np.testing.assert_allclose(p, shares, atol=2e-3)


def test_float16_features_count_as_they_are():
    values, labels = some_data()
    half = values.astype(np.float16)
    np.testing.assert_array_equal(
        fit(half, labels, 1.0).coef_, fit(half.astype(np.float64), labels, 1.0).coef_
    )


# --- Sweeps

STRENGTHS = (100.0, 10.0, 1.0, 0.1, 0.01)


def probabilities(model, values):
    return model.predict_proba(values.astype(np.float64))


@pytest.mark.parametrize('classes', [2, 4])
def test_a_sweep_ends_where_separate_fits_end(classes):
    (values, labels), held_out = some_data(classes=classes, n=150), some_data(classes=classes, n=80)
    seen = []

    def score(model):
        seen.append((model.C, probabilities(model, held_out[0])))
        return float((predict(model, held_out[0])[:, 0] == held_out[1]).mean())

    scores, unconverged = sweep(values, labels, score, STRENGTHS)
    assert unconverged == 0 and [1 / c for c, _ in seen] == pytest.approx(list(STRENGTHS))
    for (_, p), got, strength in zip(seen, scores, STRENGTHS, strict=True):
        cold = fit(values, labels, strength)
        np.testing.assert_allclose(p, probabilities(cold, held_out[0]), atol=5e-3)
        assert got == pytest.approx(
            (predict(cold, held_out[0])[:, 0] == held_out[1]).mean(), abs=0.03
        )
    assert np.abs(seen[0][1] - seen[-1][1]).max() > 0.1  # strengths matter


def test_each_strength_begins_where_the_one_before_ended():
    values, labels = some_data(n=150)
    steps = []
    sweep(values, labels, lambda model: steps.append(model.n_iter_.max()) or 0.0, (0.011, 0.01))
    assert steps[1] < steps[0] / 2


def test_what_has_not_converged_is_counted():
    values, labels = some_data()
    assert sweep(values, labels, lambda model: 0.0, STRENGTHS, max_iter=1) == ([0.0] * 5, 5)
    assert sweep(values, labels, lambda model: 0.0, (100.0, 0.001), max_iter=20)[1] == 1


@pytest.mark.parametrize('classes', [2, 4])
@pytest.mark.parametrize('stop', [1, 4])
def test_a_stopped_sweep_goes_on_as_if_it_had_not_been_stopped(
    classes, stop, tmp_path, monkeypatch
):
    values, labels = some_data(classes=classes)
    labels = labels * 3 + 1
    whole, again, state = [], [], tmp_path / 'deep' / 'state.npz'

    def norm(model):
        assert model.classes_.tolist() == [1, 4, 7, 10][:classes]
        return float(np.abs(model.coef_).sum())

    def stopping(model):
        if len(again) == stop:
            raise KeyboardInterrupt
        again.append(norm(model))
        return again[-1]

    expected = sweep(
        values, labels, lambda model: whole.append(norm(model)) or whole[-1], STRENGTHS
    )
    monkeypatch.setattr(logistic, 'SAVE_SECONDS', -1)
    with pytest.raises(KeyboardInterrupt):
        sweep(values, labels, stopping, STRENGTHS, state_path=state)
    with np.load(state, allow_pickle=False) as file:
        assert file['scores'].tolist() == whole[:stop]
    rest = []
    assert (
        sweep(
            values,
            labels,
            lambda model: rest.append(norm(model)) or rest[-1],
            STRENGTHS,
            state_path=state,
        )
        == expected
    )
    assert rest == whole[stop:] and not list(state.parent.iterdir())


def test_unconverged_are_counted_over_a_stop(tmp_path, monkeypatch):
    values, labels = some_data()
    monkeypatch.setattr(logistic, 'SAVE_SECONDS', -1)
    left = [0.0] * 3

    def stopping(model):
        return left.pop()  # IndexError at the fourth

    with pytest.raises(IndexError):
        sweep(values, labels, stopping, STRENGTHS, max_iter=1, state_path=tmp_path / 'state.npz')
    assert sweep(
        values, labels, lambda model: 0.0, STRENGTHS, max_iter=1, state_path=tmp_path / 'state.npz'
    ) == ([0.0] * 5, 5)


def test_no_state_is_written_before_its_time(tmp_path):
    values, labels = some_data()
    sweep(
        values,
        labels,
        lambda model: float(len(list(tmp_path.iterdir()))),
        STRENGTHS,
        state_path=tmp_path / 'state.npz',
    )
    assert logistic.SAVE_SECONDS == 60 and not list(tmp_path.iterdir())


def test_a_disk_that_is_full_gets_a_sentence(tmp_path, monkeypatch):
    values, labels = some_data()

    def full(path, write):
        def torn(file):
            raise OSError(28, 'No space left on device')

        write_or_raise(path, torn)

    monkeypatch.setattr(logistic, 'SAVE_SECONDS', -1)
    monkeypatch.setattr(logistic, 'write_or_raise', full)
    with pytest.raises(ConfigError, match='No space left on device'):
        sweep(values, labels, lambda model: 0.0, STRENGTHS, state_path=tmp_path / 'state.npz')


# --- Labels


@pytest.mark.parametrize('names', [(0, 1, 2), (2, 5, 9), (0, 7), (3, 400)])
def test_predictions_name_the_labels_that_were_there(names):
    values, labels = some_data(classes=len(names), n=200, spread=3)
    labels = np.array(names)[labels]
    model = fit(values, labels, 0.1)
    best = predict(model, values)
    assert (
        best.shape == (200, len(names))
        and set(best.ravel()) == set(names)
        and (best[:, 0] == labels).mean() > 0.9
    )
    assert best.dtype == np.int64 and all(sorted(row) == sorted(names) for row in best)


def test_predictions_are_best_first():
    values, labels = some_data(classes=7, n=300)
    model = fit(values, labels, 1.0)
    scores = values.astype(np.float64) @ model.coef_.T + model.intercept_
    assert predict(model, values).tolist() == np.argsort(-scores, axis=1)[:, :5].tolist()
    assert predict(model, values, top=2).shape == (300, 2)
    two, labels = some_data(classes=2, n=50)
    model = fit(two, labels, 1.0)
    p = probabilities(model, two)
    assert (np.take_along_axis(p, predict(model, two), 1)[:, 0] >= 0.5).all() and predict(
        model, two, top=1
    ).shape == (50, 1)


def test_a_class_that_is_missing_from_training_is_never_named():
    values, labels = some_data(classes=4, n=200)
    kept = labels != 1
    model = fit(values[kept], labels[kept], 1.0)
    best = predict(model, values)
    assert best.shape == (200, 3) and set(best.ravel()) == {0, 2, 3}
