"""What the networks of a run make of its images: neighbours, t-SNE, confusions, maps.

Each network is loaded once, and only what the page shows of it is kept.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ssl_zoo.config.loading import import_file
from ssl_zoo.errors import ConfigError
from ssl_zoo.evaluation.features import Features
from ssl_zoo.evaluation.knn import knn_predict
from ssl_zoo.evaluation.protocols.context import EvaluationContext
from ssl_zoo.reports.run import sample
from ssl_zoo.reports.run.confusions import EXAMPLES, PAIRS, Confusion, worst_confusions
from ssl_zoo.reports.run.feature_maps import FeatureMap, class_token_attention, feature_map
from ssl_zoo.reports.run.neighbours import NeighbourRow, Query, nearest_in_bank
from ssl_zoo.reports.run.records import RunRecords
from ssl_zoo.reports.run.sample import NetworkState, Sample


@dataclass
class Analysis:
    """What the page shows of images.

    Attributes:
        sample: the images.
        queries: the test images that are shown.
        query_pixels: (Q, H, W, 3) uint8, their pixels.
        neighbours: nearest training images, network by network.
        bank_labels: labels of the bank, network by network.
        test: features of the test images under the newest network.
        bank: features of the training images under the newest network.
        k: number of neighbours of the k-NN vote.
        predicted: (N,) int64, the classes that k-NN gives to ``test``; None without labels.
        confusions: the most frequent wrong predictions.
        examples: (e, H, W, 3) uint8, the first images of each confusion.
        maps: feature map of the queries, by title of the network.
        no_maps: the reason why there are no maps.
        attention: (Q, heads, h, w) of the newest network, None if it has none.
        no_attention: the reason why there is no attention.
        network: role of the network and number of its parameters, in words.
    """

    sample: Sample
    queries: list[Query] = field(default_factory=list)
    query_pixels: np.ndarray | None = None
    neighbours: list[NeighbourRow] = field(default_factory=list)
    bank_labels: list[np.ndarray | None] = field(default_factory=list)
    test: Features | None = None
    bank: Features | None = None
    k: int = 0
    predicted: np.ndarray | None = None
    confusions: list[Confusion] = field(default_factory=list)
    examples: list[np.ndarray] = field(default_factory=list)
    maps: dict[str, FeatureMap] = field(default_factory=dict)
    no_maps: str = ''
    attention: np.ndarray | None = None
    no_attention: str = ''
    network: str = ''


@dataclass(frozen=True)
class ImageOptions:
    """How the networks are loaded and the images are read.

    Attributes:
        options: changes to the data of the config, such as 'data.test.root=/data/imagenet/val'.
        imports: Python files that register methods or data sets.
        workers: processes of the loader; None for the number used in training.
    """

    options: Sequence[str] = ()
    imports: Sequence[str] = ()
    workers: int | None = None


def analyse(
    records: RunRecords, image_options: ImageOptions, report: Callable[[str], object]
) -> Analysis:
    """Compute what the page shows of images.

    Args:
        records: the run; it has a checkpoint that can be read.
        image_options: how networks and images are read.
        report: called with a sentence before each long part.

    Raises:
        ConfigError: the images are missing, or a network cannot be built.
    """
    for file in image_options.imports:
        import_file(file)
    states = sample.network_states(records)
    analysis: Analysis | None = None
    for number, state in enumerate(states):
        report(f'network {number + 1} of {len(states)}: {state.title}')
        context = EvaluationContext(
            str(state.path),
            image_options.options,
            random_weights=state.random_weights,
            workers=image_options.workers,
        )
        if analysis is None:
            analysis = Analysis(Sample.of(context))
        _add_network(analysis, context, state, is_newest=number == len(states) - 1)
    assert analysis is not None  # a run with a checkpoint has a network
    return analysis


def _add_network(
    analysis: Analysis, context: EvaluationContext, state: NetworkState, is_newest: bool
) -> None:
    """Add what one network makes of the images."""
    shown = analysis.sample
    test = sample.features_of(context, shown.test, shown.test_name)
    bank = sample.features_of(context, shown.bank, 'training images')
    chosen = sample.choose_queries(test.index, test.labels, len(shown.test))
    pixels, normalised = sample.seen_pixels(context, shown.test, test.index[chosen])
    if not analysis.queries:
        labels = [None] * len(chosen) if not shown.labelled else test.labels[chosen].tolist()
        analysis.query_pixels = pixels
        analysis.queries = [Query(*pair) for pair in zip(pixels, labels, strict=True)]
    _add_neighbours(analysis, context, state, bank, test.values[chosen])
    middle = not is_newest and not state.random_weights
    if not middle and not analysis.no_maps:
        try:
            analysis.maps[state.title] = feature_map(context.encoder, normalised)
        except ConfigError as error:
            analysis.no_maps = str(error)
    if is_newest:
        try:
            analysis.attention = class_token_attention(context.encoder, normalised)
        except ConfigError as error:
            analysis.no_attention = str(error)
        parameters = sum(parameter.numel() for parameter in context.encoder.parameters())
        analysis.network = f'{context.network} backbone, {parameters:,} parameters'
        _add_predictions(analysis, context, bank, test)


def _add_neighbours(
    analysis: Analysis,
    context: EvaluationContext,
    state: NetworkState,
    bank: Features,
    queries: np.ndarray,
) -> None:
    cosines, rows = nearest_in_bank(bank, queries)
    positions = bank.index[rows]
    pixels, _ = sample.seen_pixels(context, analysis.sample.bank, positions.ravel())
    shape = (*positions.shape, *pixels.shape[1:])
    analysis.neighbours.append(
        NeighbourRow(state.title, cosines, rows, positions, pixels.reshape(shape))
    )
    analysis.bank_labels.append(bank.labels if analysis.sample.labelled else None)


def _add_predictions(
    analysis: Analysis, context: EvaluationContext, bank: Features, test: Features
) -> None:
    """Add features and, with labels, the k-NN predictions of the newest network."""
    analysis.test = test
    analysis.bank = bank
    if not analysis.sample.labelled:
        return
    online = context.settings.online_eval
    analysis.k = min(online.k, len(bank.values))
    classes = len(analysis.sample.classes)
    analysis.predicted = knn_predict(
        bank.values, bank.labels, test.values, classes, analysis.k, online.temperature
    )
    analysis.confusions = worst_confusions(test.labels, analysis.predicted, PAIRS)
    for confusion in analysis.confusions:
        positions = test.index[confusion.rows[:EXAMPLES]]
        pixels, _ = sample.seen_pixels(context, analysis.sample.test, positions)
        analysis.examples.append(pixels)
