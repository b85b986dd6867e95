"""From a file in configs/studies/ to a Study, checked before anything runs."""

from dataclasses import MISSING, fields, replace
from pathlib import Path

from ssl_zoo.config.find import find_study
from ssl_zoo.config.loading import load_config, read_program
from ssl_zoo.data.label_lists import PER_CLASS, SHARE
from ssl_zoo.errors import ConfigError, nearest
from ssl_zoo.evaluation.logistic import check_strengths
from ssl_zoo.evaluation.recipes import LINEAR
from ssl_zoo.studies.study import RANDOM, Evaluation, Study, Tuning, number_in, slug


def load_study(
    path: str | Path, small: bool = False, seeds: list[int] | None = None, changes: list[str] = ()
) -> Study:
    """Read a study, and every config in it with every option, so that a mistake shows before anything runs.

    A study is a Python program: reading it runs it. Names in it that begin with _ are its own variables.

    Args:
        path: the file, or the name of a shipped study, such as 'digits'.
        small: its version for two CPU cores: what its dict ``small`` names replaces what stands above.
        seeds: instead of its own; changes: options for all configs.
    Raises:
        ConfigError: a missing file, a key or value that does not exist or does not fit, in the study or in a config of it.
    """
    path = find_study(path)
    cfg = read_program(path, 'study')
    shrunk = cfg.pop('small', None)
    if small:
        if not isinstance(shrunk, dict):
            raise ConfigError(f'{path} has no small version (a dict `small`); leave --small out')
        cfg |= shrunk
    if seeds is not None:
        cfg['seeds'] = seeds
    return _checked(cfg, path, small, tuple(changes))


def _checked(cfg: dict, path: Path, small: bool, changes: tuple[str, ...]) -> Study:
    for key, cls in (('tune', Tuning), ('evaluate', Evaluation)):
        if cfg.get(key) is not None or key == 'evaluate' and key in cfg:
            cfg[key] = _built(cls, cfg[key], f'{path.name}: {key}')
    study = _built(
        Study,
        cfg,
        path.name,
        dict(name=path.stem + ('_small' if small else ''), path=path, small=small, changes=changes),
    )

    def need(holds, key, value, what):
        if not holds:
            shown = list(value) if isinstance(value, tuple) else value
            raise ConfigError(f'{path.name}: {key} is {shown!r}, but it must be {what}')

    need(
        isinstance(study.methods, dict) and study.methods,
        'methods',
        study.methods,
        'a dict of name: config, at least one',
    )
    methods = {}
    for name, method in study.methods.items():
        method = dict(config=method) if isinstance(method, str) else method
        need(
            isinstance(method, dict)
            and isinstance(method.get('config'), str)
            and set(method) <= {'config', 'options', 'trial'}
            and _texts(method.get('options', ()))
            and _texts(method.get('trial', ())),
            f'methods[{name!r}]',
            method,
            "a config file or dict(config='...', options=['key=value'])",
        )
        need(
            name != RANDOM,
            'a method',
            name,
            'called otherwise: that is the name of the untrained network',
        )
        methods[name] = dict(
            config=method['config'],
            **{key: list(method.get(key, [])) for key in ('options', 'trial')},
        )
    for key in ('recipe', 'caveats'):
        need(_texts(getattr(study, key)), key, getattr(study, key), 'a list of texts')
    need(
        study.seeds
        and all(isinstance(s, int) and s >= 0 for s in study.seeds)
        and len(set(study.seeds)) == len(study.seeds),
        'seeds',
        study.seeds,
        'a list of different whole numbers of at least 0',
    )
    need(
        isinstance(study.axes, dict)
        and all(
            isinstance(labels, dict) and labels and all(map(_texts, labels.values()))
            for labels in study.axes.values()
        ),
        'axes',
        study.axes,
        "a dict of axis: {label: ['key=value', ...]}",
    )
    axes = {
        str(axis): {str(label): list(options) for label, options in labels.items()}
        for axis, labels in study.axes.items()
    }
    if study.tune is not None:
        factors = study.tune.factors
        need(
            len(factors) > 1
            and all(isinstance(f, (int, float)) and f > 0 for f in factors)
            and len(set(factors)) == len(factors),
            'tune.factors',
            factors,
            'two or more different numbers above 0',
        )
        need(
            study.tune.seed not in study.seeds,
            'tune.seed',
            study.tune.seed,
            'none of seeds: a run that served the choice is no measurement',
        )
        need(_texts(study.tune.options), 'tune.options', study.tune.options, 'a list of texts')
        need(
            isinstance(study.tune.key, str),
            'tune.key',
            study.tune.key,
            "a key of the configs, such as 'base_lr'",
        )
        need(
            isinstance(study.tune.seed, int) and study.tune.seed >= 0,
            'tune.seed',
            study.tune.seed,
            'a whole number of at least 0',
        )
    reference = study.reference or next(iter(methods))
    if reference not in methods:
        raise ConfigError(f'{path.name}: reference is {reference!r}: {nearest(reference, methods)}')
    study = replace(study, methods=methods, axes=axes, reference=reference)
    ids = [arm.id for arm in study.arms()]
    twice = next((i for i in ids if ids.count(i) > 1 or i == slug(RANDOM)), None)
    if twice:
        raise ConfigError(
            f'{path.name}: two rows would share the folder {twice}; give methods and labels names that differ in letters or '
            f'digits'
        )
    _check_evaluation(study.evaluate, path.name)
    for arm in study.arms():
        try:
            settings = arm.settings()
        except ConfigError as error:
            raise ConfigError(
                f'{path.name}: {" ".join([arm.method, *arm.place.values()])}: {error}'
            ) from None
        if settings.data.test is None or settings.data.val is None:
            raise ConfigError(
                f'{path.name}: {arm.method} has no data.{"test" if settings.data.test is None else "val"}; a study chooses '
                f'on a hold-out and measures on test images, so give both in recipe'
            )
        if study.tune is not None and not any(
            arm.place[axis] != next(iter(labels)) for axis, labels in study.axes.items()
        ):
            number = number_in(settings, study.tune.key)
            for factor in study.tune.factors:
                try:
                    load_config(
                        arm.config,
                        [*study.trial_options(arm), f'{study.tune.key}={number * factor!r}'],
                    )
                except ConfigError as error:
                    raise ConfigError(f'{path.name}: trial of {arm.method}: {error}') from None
    return study


def _built(cls, given: dict, where: str, own: dict | None = None):
    """A dataclass from a dict and what is not the writer's to say (``own``): unknown and missing keys are errors."""
    own = own or {}
    if not isinstance(given, dict):
        raise ConfigError(f'{where} is {given!r}, but it must be a dict')
    names = [f.name for f in fields(cls) if f.name not in own]
    wrong = next((key for key in given if key not in names), None)
    if wrong is not None:
        raise ConfigError(f'{where} has no key {wrong!r}: {nearest(wrong, names)}')
    flat = next(
        (
            f.name
            for f in fields(cls)
            if str(f.type).startswith('tuple') and not isinstance(given.get(f.name, []), list)
        ),
        None,
    )
    if flat:
        raise ConfigError(f'{where}: {flat} is {given[flat]!r}, but it must be a list')
    missing = next(
        (
            f.name
            for f in fields(cls)
            if f.default is MISSING
            and f.default_factory is MISSING
            and f.name not in given
            and f.name not in own
        ),
        None,
    )
    if missing:
        raise ConfigError(f'{where} lacks {missing!r}; it takes {", ".join(names)}')
    return cls(
        **{key: tuple(value) if isinstance(value, list) else value for key, value in given.items()},
        **own,
    )


def _texts(values) -> bool:
    return isinstance(values, (list, tuple)) and all(isinstance(v, str) for v in values)


def _check_evaluation(evaluate: Evaluation, where: str) -> None:
    try:
        for values, what in ((evaluate.k, 'k'), (evaluate.temperature, 'temperature')):
            kinds = int if what == 'k' else (int, float)
            if not values or not all(isinstance(v, kinds) and v > 0 for v in values):
                raise ConfigError(
                    f'{what} is {list(values)}, but it must be one or more {"whole " * (kinds is int)}numbers above 0'
                )
        if evaluate.linear == 'logistic' and not (
            evaluate.strengths and check_strengths(evaluate.strengths)
        ):
            raise ConfigError(
                "strengths is [], but linear='logistic' needs one or more numbers above 0"
            )
        if evaluate.precision not in ('float32', 'bf16'):
            raise ConfigError(
                f"precision is {evaluate.precision!r}, but it must be 'float32' or 'bf16'"
            )
        if evaluate.linear not in (None, 'logistic'):
            if evaluate.linear not in LINEAR:
                raise ConfigError(
                    f'linear is {evaluate.linear!r}: {nearest(evaluate.linear, ["logistic", *LINEAR])}'
                )
            evaluate.linear_preset()
        for labels in evaluate.labels:
            share = SHARE.fullmatch(str(labels))
            if not (share and 0 < float(share[1]) <= 100 or PER_CLASS.fullmatch(str(labels))):
                raise ConfigError(
                    f"labels has {labels!r}, but it must be a share such as '1%', or a number such as '4-per-class'"
                )
            evaluate.recipe_of(labels)
    except (ConfigError, TypeError) as error:
        raise ConfigError(f'{where}: evaluate: {error}') from None
