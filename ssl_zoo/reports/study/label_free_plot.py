"""The figure of a study's runs: accuracy over each measure without labels."""

from matplotlib.figure import Figure

from ssl_zoo.evaluation.label_free import MEASURES
from ssl_zoo.reports.study.label_free import Candidate
from ssl_zoo.reports.style import DARK_GREY, colour, marker, styled

WIDTH = 4.4  # inches; a page shows a figure about 420 px wide
COLUMNS = 2
LEGEND_COLUMNS = 3


@styled
def plot_measures(runs: list[Candidate], accuracy: str) -> Figure | None:
    """Plot a panel for each measure, and in it a point for each run.

    Args:
        runs: the finished runs.
        accuracy: name of their accuracy.

    Returns:
        None if fewer than two runs have a measure.
    """
    shown = [m for m in MEASURES if sum(m.key in run.values for run in runs) > 1]
    if not shown:
        return None
    methods = list(dict.fromkeys(run.method for run in runs))
    rows = -(-len(shown) // COLUMNS)
    legend_rows = -(-len(methods) // LEGEND_COLUMNS)
    figure = Figure((WIDTH, 1.75 * rows + 0.35 + 0.19 * legend_rows), layout='constrained')
    grid = figure.subplots(rows, COLUMNS, sharey=True, squeeze=False)
    axes = list(grid.ravel())
    for axis in axes[len(shown) :]:
        axis.remove()
    for axis, measure in zip(axes, shown, strict=False):
        for number, method in enumerate(methods):
            of_method = [run for run in runs if run.method == method and measure.key in run.values]
            axis.plot(
                [run.values[measure.key] for run in of_method],
                [run.accuracy for run in of_method],
                marker(number),
                color=colour(number),
                markersize=4,
                label=method,
            )
        if measure.good == 'near 1':
            axis.axvline(1, color=DARK_GREY, linestyle='--', linewidth=0.8)
        axis.set_title(f'{measure.name} (good: {measure.good})', loc='left')
    figure.supylabel(f'{accuracy}: accuracy, %', fontsize='medium')
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc='outside lower center', ncols=min(LEGEND_COLUMNS, len(labels))
    )
    return figure
