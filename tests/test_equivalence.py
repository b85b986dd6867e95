"""Two processes train what one does, for every registered method: benchmarks/equivalence.py."""

import json

import pytest

from ssl_zoo.registry import METHODS

NAMES = [
    name for name in METHODS.names() if METHODS.find(name).__module__.startswith('ssl_zoo.methods')
]
OFTEN = ['BYOL']  # the other methods are long tests
REST = [name for name in NAMES if name not in OFTEN] + ['BYOL, batch-normalised']
ROUNDING = 1e-8  # float64; what is 0 but for rounding counts relative to 1e-6 of the largest value


@pytest.fixture(scope='module')
def measured(tmp_path_factory, run_tool):
    """Function: the figures of a variant; the script measures it together with others."""
    figures = {}

    def measure(name):
        if name not in figures:
            path = tmp_path_factory.mktemp('equivalence') / 'figures.json'
            names = OFTEN if name in OFTEN else REST
            done = run_tool(
                'benchmarks/equivalence.py', '--small', '--methods', *names, '--json', path
            )
            assert done.returncode == 0, done.stderr[-3000:]
            figures.update(json.loads(path.read_text()))
        return figures[name]

    return measure


def often_and_long(names):
    return [*OFTEN, *(pytest.param(name, marks=pytest.mark.long) for name in names)]


@pytest.mark.parametrize('name', often_and_long(REST))
def test_two_processes_equal_one(measured, name):
    figures = measured(name)
    assert (
        {'loss', 'gradient', 'weights', 'statistics'}
        <= figures['processes'].keys()
        == figures['both'].keys()
    )
    assert max(figures['processes'].values()) < ROUNDING, 'two processes against one'
    assert max(figures['both'].values()) < ROUNDING, (
        'two processes and two passes against one process and two passes'
    )


@pytest.mark.parametrize('name', often_and_long(REST[:-1]))
def test_two_passes_equal_one_where_the_loss_looks_at_no_other_image(measured, name):
    worst = max(measured(name)['passes'].values())
    assert worst > 1e-3 if measured(name)['batch_coupling'] else worst < ROUNDING
