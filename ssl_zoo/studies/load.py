"""Read a study file and check it before anything runs."""

from dataclasses import replace
from pathlib import Path

from ssl_zoo.config.constraints import check_fields
from ssl_zoo.config.fill import fill_dataclass
from ssl_zoo.config.find import find_study
from ssl_zoo.config.loading import load_config, read_program
from ssl_zoo.errors import ConfigError, nearest
from ssl_zoo.studies.evaluation import Evaluation, check_evaluation
from ssl_zoo.studies.study import RANDOM_WEIGHTS, Arm, Study, StudyMethod, Tuning, number_in, slug

# Fields of a Study that the loader fills in; a study file does not set them.
LOADER_FIELDS = ('name', 'path', 'small', 'changes')


def load_study(
    path: str | Path,
    small: bool = False,
    seeds: list[int] | None = None,
    changes: list[str] | None = None,
) -> Study:
    """Read a study file, and load every config of the study with every option.

    A study file is a Python program, and reading the file runs the program. Names that begin with
    _ are local variables of the file, not keys of the study.

    Args:
        path: the file, or the name of a shipped study, such as 'digits'.
        small: whether to read the version for two CPU cores: values in the file's dict ``small``
            replace those of the full study.
        seeds: seeds that replace those of the study; None keeps them.
        changes: config options that override all others.

    Raises:
        ConfigError: the file is missing; or the study, or one of its configs, has a key that does
            not exist or a value that is not allowed.
    """
    path = find_study(path)
    values = read_program(path, 'study')
    small_values = values.pop('small', None)
    if small:
        if not isinstance(small_values, dict):
            raise ConfigError(f'{path} has no small version (a dict `small`); leave --small out')
        values |= small_values
    if seeds is not None:
        values['seeds'] = seeds
    for key in values:
        if key in LOADER_FIELDS:
            raise ConfigError(f'{path.name}: {key} is not a key of a study; remove it')
    name = f'{path.stem}_small' if small else path.stem
    loader_values = dict(name=name, path=path, small=small, changes=tuple(changes or ()))
    study = _build_study(values, loader_values)
    _check_study(study)
    for arm in study.arms():
        _check_arm(study, arm)
    return study


def _build_study(values: dict, loader_values: dict) -> Study:
    """Make the Study; all values have the types of their fields."""
    prefix = f'{loader_values["path"].name}: '
    values = dict(values)
    if values.get('tune') is not None:
        values['tune'] = fill_dataclass(Tuning, values['tune'], f'{prefix}tune.')
    if 'evaluate' in values:
        values['evaluate'] = fill_dataclass(Evaluation, values['evaluate'], f'{prefix}evaluate.')
    study = fill_dataclass(Study, {**values, **loader_values}, prefix)
    check_fields(study, prefix)
    methods = {}
    for name, method in study.methods.items():
        if isinstance(method, str):
            method = dict(config=method)
        methods[name] = fill_dataclass(StudyMethod, method, f'{prefix}methods[{name!r}].')
    axes = {
        str(axis): {str(label): list(options) for label, options in labels.items()}
        for axis, labels in study.axes.items()
    }
    reference = study.reference or next(iter(methods))
    return replace(study, methods=methods, axes=axes, reference=reference)


def _check_study(study: Study) -> None:
    """Check the parts of the study, and that they are consistent."""
    prefix = f'{study.path.name}: '
    for name, method in study.methods.items():
        check_fields(method, f'{prefix}methods[{name!r}].')
        if name == RANDOM_WEIGHTS:
            raise ConfigError(
                f'{prefix}a method is called {name!r}, which is the name of the untrained '
                'network; give it another name'
            )
    if study.reference not in study.methods:
        allowed = nearest(study.reference, study.methods)
        raise ConfigError(f'{prefix}reference is {study.reference!r}: {allowed}')
    if study.tune is not None:
        check_fields(study.tune, f'{prefix}tune.')
        if study.tune.seed in study.seeds:
            raise ConfigError(
                f'{prefix}tune.seed={study.tune.seed} is one of seeds, but a seed that chose the '
                'factor gives no independent measurement; give another tune.seed'
            )
    _check_variants(study)
    folders = [arm.id for arm in study.arms()]
    for folder in folders:
        if folders.count(folder) > 1 or folder == slug(RANDOM_WEIGHTS):
            raise ConfigError(
                f'{prefix}two rows would share the folder {folder}; give methods and labels names '
                'that differ in letters or digits'
            )
    check_evaluation(study.evaluate, f'{prefix}evaluate.')


def _check_variants(study: Study) -> None:
    """Check that every method gets the same number of trials."""
    counts = {name: len(study.variants_of(name)) for name in study.methods}
    if len(set(counts.values())) > 1:
        raise ConfigError(
            f'{study.path.name}: the numbers of variants differ: {counts}; give every method the '
            'same number, so that all get the same number of trials'
        )
    if study.tune is None and any(method.variants for method in study.methods.values()):
        raise ConfigError(
            f'{study.path.name}: methods have variants, but tune, which chooses one of them, is '
            "not given; give tune, such as dict(key='base_lr', factors=[0.5, 1, 2])"
        )


def _check_arm(study: Study, arm: Arm) -> None:
    """Load the arm's config and, if the arm is tuned, the config of every trial."""
    prefix = f'{study.path.name}: '
    try:
        settings = arm.settings()
        for variant in study.variants_of(arm.method):
            study.with_variant(arm, variant).settings()
    except ConfigError as error:
        raise ConfigError(f'{prefix}{arm.name}: {error}') from None
    for part in ('test', 'val'):
        if getattr(settings.data, part) is None:
            raise ConfigError(
                f'{prefix}{arm.method} has no data.{part}; a study chooses on a hold-out and '
                'measures on test images, so give both in recipe'
            )
    if study.tune is not None and study.is_baseline(arm):
        _check_trials(study, arm)


def _check_trials(study: Study, arm: Arm) -> None:
    key = study.tune.key
    for variant in study.variants_of(arm.method):
        options = study.trial_options(arm, variant)
        try:
            number = number_in(study.with_variant(arm, variant).settings(), key)
            for factor in study.tune.factors:
                load_config(arm.config, [*options, f'{key}={number * factor!r}'])
        except ConfigError as error:
            raise ConfigError(f'{study.path.name}: trial of {arm.method}: {error}') from None
