"""Measure a checkpoint without labels: RankMe, alpha-ReQ, LiDAR, alignment, uniformity."""

import math
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime

import numpy as np

from ssl_zoo.config.builtin_values import to_builtin
from ssl_zoo.data.data_digest import data_digest
from ssl_zoo.data.sources import Source, stratified_subset
from ssl_zoo.data.splits import data_notes, feature_sources
from ssl_zoo.distributed import rank
from ssl_zoo.distributed.objects import raise_together
from ssl_zoo.errors import ConfigError
from ssl_zoo.evaluation.alignment import ALPHA, T
from ssl_zoo.evaluation.features import extract_features
from ssl_zoo.evaluation.label_free import (
    FEATURE_IMAGES,
    MEASURES,
    VIEW_IMAGES,
    Measure,
    measure_features,
    measure_views,
)
from ssl_zoo.evaluation.lidar import DELTA, EPSILON
from ssl_zoo.evaluation.protocols.context import EvaluationContext
from ssl_zoo.evaluation.protocols.describe import describe_row
from ssl_zoo.evaluation.results import write_row
from ssl_zoo.evaluation.view_features import VIEWS, full_size_views, view_features
from ssl_zoo.input_size import fitting_copy
from ssl_zoo.printable import printable
from ssl_zoo.versions import versions

# Parameters of the measures that have some, for the protocol.
PARAMETERS = dict(
    lidar=dict(delta=DELTA, epsilon=EPSILON), alignment=dict(alpha=ALPHA), uniformity=dict(t=T)
)


def evaluate_label_free(
    context: EvaluationContext,
    images: int = VIEW_IMAGES,
    views: int = VIEWS,
    report: Callable[[str], object] = print,
) -> list[dict]:
    """Measure the network on the hold-out, or on training images where there is none.

    These are the images of the online evaluation, and their views are the same.

    Args:
        context: the network and its data, which need no labels.
        images: number of images whose views are compared, at least 2.
        views: number of views of each, at least 2.
        report: called with each line for people.

    Returns:
        A results row for each measure that the features have; on ranks above 0 none.

    Raises:
        ConfigError: a number is too small, data are missing, no image can be read, or the rows
            cannot be written.
    """
    if images < 2 or views < 2:
        raise ConfigError(
            f'the number of images is {images} and of views {views}, but both must be at least 2'
        )
    sources = raise_together(lambda: feature_sources(context.settings.data))
    for note in data_notes(sources):
        report(f'note: {printable(note)}')
    name = 'train' if sources['val'] is None else 'val'
    source = stratified_subset(sources[name], FEATURE_IMAGES)
    shown = stratified_subset(source, images)
    features = extract_features(
        context.encoder, source, context.preprocessing, context.batch_size, context.workers
    )
    if rank() > 0:
        return []
    if not len(features.values):
        raise ConfigError(f'none of the {len(source)} images of data.{name} can be read')
    of_views = _features_of_views(context, shown, views)
    values = measure_features(features.values) | measure_views(of_views)
    rows = []
    for measure in MEASURES:
        if not math.isfinite(values[measure.key]):
            report(f'{measure.name}: these features have none, see docs/is_it_learning.md')
            continue
        used = shown if measure.of_views else source
        n = len(of_views) if measure.of_views else len(features.values)
        row = _row(context, measure, values[measure.key], n, used, views)
        rows.append(dict(row, test=name))
        report(f'{measure.name} {row["value"]:.4g}  [{describe_row(row)}]')
    try:
        write_row(context.work_dir, *rows)
    except OSError as error:
        raise ConfigError(f'could not write the rows to {context.work_dir}: {error}') from None
    return rows


def _features_of_views(context: EvaluationContext, source: Source, views: int) -> np.ndarray:
    recipes = context.settings.build_views()
    size = full_size_views(recipes)[0].size
    encoder = context.encoder
    if size != context.preprocessing.size:
        encoder = fitting_copy(encoder, size)
    return view_features(encoder, source, recipes, context.preprocessing, views)


def _protocol(measure: Measure, n: int, views: int) -> dict:
    protocol = dict(name='label_free', measure=measure.name, good=measure.good, images=n)
    if measure.of_views:
        protocol['views'] = views
    return protocol | PARAMETERS.get(measure.key, {})


def _row(
    context: EvaluationContext, measure: Measure, value: float, n: int, source: Source, views: int
) -> dict:
    return dict(
        metric=measure.key,
        value=value,
        n=n,
        protocol=_protocol(measure, n, views),
        chosen={},
        weights=context.weights,
        network=context.network,
        layer=context.layer,
        preprocessing=to_builtin(asdict(context.preprocessing)),
        warnings=list(context.method.warnings),
        train_data=context.train_data,
        test_manifest=source.manifest(),
        test_data=data_digest(source),
        left_out=len(source) - n,
        checkpoint=str(context.path),
        checkpoint_sha256=context.checkpoint_hash,
        step=context.step,
        seed=context.seed,
        seconds=round(time.perf_counter() - context.started, 1),
        time=datetime.now(UTC).isoformat(timespec='seconds'),
        command=shlex.join(sys.argv),
        versions=versions(),
        config=context.settings.to_builtin(),
    )
