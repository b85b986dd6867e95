"""A study: methods x axes x seeds on one shared recipe, written as a small config in configs/studies/."""
import hashlib
import json
import re
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from itertools import product
from pathlib import Path

from mmengine.config import Config

from ..data.labels import PER_CLASS, SHARE
from ..engine.config import load_config
from ..engine.settings import Settings, plain
from ..evaluation.recipes import FINETUNE, LINEAR, Recipe, linear_preset, logspace
from ..registry import ConfigError, nearest

RANDOM = 'random weights'                                              # the name of the untrained network in tables


@dataclass(frozen=True)
class Tuning:
    """The search for one number of the config, for each method apart, with the same number of trials for each.

    A trial is a training without test images, judged by k-NN on the hold-out (watch.k and watch.temperature of the config). The
    best is taken for all runs of the method, whatever their axes.

    Attributes:
        factors: what the number in the method's config is multiplied with.
        key: which number.
        seed: of the trials; none of the study's own, whose runs would otherwise be chosen with their own luck.
        options: changes for the trials alone, such as fewer epochs.
    """
    factors: tuple[float, ...]
    key: str = 'base_lr'
    seed: int = 1000
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Evaluation:
    """How every run is judged. Choices are made on the hold-out, figures are of the test images.

    Attributes:
        k, temperature: of the k-NN vote; of several the best on the hold-out.
        linear: 'logistic' (L-BFGS on features without augmentation), the name of a preset of tools/linear_eval.py (the frozen
            protocol with random crops), or None for no linear evaluation.
        linear_recipe: changes to that preset, such as dict(epochs=(10,)).
        strengths: of the penalties of 'logistic'.
        labels: what part of the labels the whole network is fine-tuned on, once for each: '1%', '10%', '4-per-class' ...
        finetune: changes to BYOL's recipe of fine-tuning (ssl_zoo.evaluation.recipes.FINETUNE), or for each of ``labels`` its own.
        precision: of the network.
    """
    k: tuple[int, ...] = (20,)
    temperature: tuple[float, ...] = (0.07,)
    linear: str | None = 'logistic'
    linear_recipe: dict = field(default_factory=dict)
    strengths: tuple[float, ...] = logspace(1e3, 1e-4, 8)
    labels: tuple[str, ...] = ('1%', '10%')
    finetune: dict = field(default_factory=dict)
    precision: str = 'float32'

    def recipe_of(self, labels: str) -> Recipe:
        return FINETUNE.with_changes(**self.finetune.get(labels, {} if set(self.finetune) & set(self.labels) else self.finetune))

    def linear_preset(self) -> Recipe:
        return linear_preset(self.linear).with_changes(**self.linear_recipe)

    def metrics(self) -> list[dict]:
        """key, name and protocol of every figure of a run."""
        def choice(values, what):
            return f'{what} = {values[0]:g}' if len(values) == 1 else f'{what} of {len(values)} chosen on the hold-out'
        rows = [dict(key='knn', name='k-NN', protocol=f'weighted vote, {choice(self.k, "k")}, {choice(self.temperature, "T")}, cosine')]
        if self.linear == 'logistic':
            rows.append(dict(key='linear', name='linear', protocol='logistic regression (L-BFGS) on features without augmentation, '
                                                                   f'strength of {len(self.strengths)} chosen on the hold-out'))
        elif self.linear:
            recipe = self.linear_preset()
            rows.append(dict(key='linear', name='linear', protocol=f'frozen protocol {self.linear!r}, {len(recipe.lrs)} learning rates '
                                                                   f'to choose from on the hold-out, {recipe.epochs[0]:g} epochs'))
        for labels in self.labels:
            recipe = self.recipe_of(labels)
            rows.append(dict(key=labels, name=f'{labels} of the labels' if labels.endswith('%') else labels, protocol=(
                f'whole network fine-tuned, {" or ".join(f"{e:g}" for e in recipe.epochs)} epochs, {len(recipe.lrs)} learning rates, '
                f'chosen on the hold-out')))
        return rows


@dataclass(frozen=True)
class Arm:
    """A row of the study's table: a method at one place of the axes. Attributes: method: its name in the study; place: {axis: label};
    config; options: the recipe's, the method's, the axes' and the command line's, in this order."""
    method: str
    place: dict
    config: Path
    options: tuple[str, ...]

    @property
    def id(self) -> str:
        return slug('-'.join([self.method, *self.place.values()]))

    def settings(self, *more: str) -> Settings:
        return load_config(self.config, [*self.options, *more])


@dataclass(frozen=True)
class Study:
    """What a file in configs/studies/ says.

    Attributes:
        title, question: for the report; caveats: what its scale can and cannot show.
        methods: name -> config file (relative to the study's), or dict(config=..., options=[...]).
        recipe: options for all of them, such as 'epochs=100'; changes: more of them, from the command line, above all others.
        axes: axis -> {label: [options]}; every method is run at every place. The first label of each is the baseline.
        seeds: of the runs.
        reference: the method that the others are compared with; the first one by default.
        tune: see Tuning; None to take the configs' own numbers.
        evaluate: see Evaluation.
        name, path: of the file; small: whether the file's ``small`` replaced what it names.
    """
    title: str
    methods: dict
    seeds: tuple[int, ...]
    question: str = ''
    caveats: tuple[str, ...] = ()
    recipe: tuple[str, ...] = ()
    axes: dict = field(default_factory=dict)
    reference: str = ''
    tune: Tuning | None = None
    evaluate: Evaluation = field(default_factory=Evaluation)
    name: str = ''
    path: Path = Path()
    small: bool = False
    changes: tuple[str, ...] = ()

    def arms(self) -> list[Arm]:
        out = []
        for name, method in self.methods.items():
            for labels in product(*self.axes.values()):
                place = dict(zip(self.axes, labels, strict=True))
                options = [option for axis, label in place.items() for option in self.axes[axis][label]]
                options = (*self.recipe, *method['options'], *options, *self.changes)
                out.append(Arm(name, place, self.path.parent / method['config'], options))
        return out

    def plain(self) -> dict:
        """As nested dicts of plain values, for study.json and for the report."""
        return plain(dict(asdict(replace(self, path=Path())), path=None))


def slug(text: str) -> str:
    """A name for a folder: letters, digits and what a file system takes; others become _, and a hash keeps such names apart."""
    short = re.sub(r'[^A-Za-z0-9.+-]+', '_', text).strip('_.').lower()
    kept = re.sub(r'[ _]', '', text).lower() == short.replace('_', '')
    return short if kept else f'{short}-{hashlib.sha256(text.encode()).hexdigest()[:6]}'


def load_study(path: str | Path, small: bool = False, seeds: list[int] | None = None, changes: list[str] = ()) -> Study:
    """Read a study, and every config in it with every option, so that a mistake shows before anything runs.

    A study is a Python program: reading it runs it. Names in it that begin with _ are its own variables.

    Args:
        path: the file.
        small: its version for two CPU cores: what its dict ``small`` names replaces what stands above.
        seeds: instead of its own; changes: options for all configs.
    Raises:
        ConfigError: a missing file, a key or value that does not exist or does not fit, in the study or in a config of it.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f'there is no study at {path.absolute()}; give the path of a .py file, such as configs/studies/digits.py')
    try:
        cfg = plain(Config.fromfile(str(path), import_custom_modules=False).to_dict())
    except KeyboardInterrupt:
        raise
    except BaseException as error:                                     # a study may raise anything, or call sys.exit
        raise ConfigError(f'the study {path} cannot be read: {type(error).__name__}: {error}') from error
    cfg = {key: value for key, value in cfg.items() if not key.startswith('_')}
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
        if cfg.get(key) is not None:
            cfg[key] = _built(cls, cfg[key], f'{path.name}: {key}')
    study = _built(Study, cfg, path.name, dict(name=path.stem + ('_small' if small else ''), path=path, small=small, changes=changes))

    def need(holds, key, value, what):
        if not holds:
            shown = list(value) if isinstance(value, tuple) else value
            raise ConfigError(f'{path.name}: {key} is {shown!r}, but it must be {what}')
    need(isinstance(study.methods, dict) and study.methods, 'methods', study.methods, 'a dict of name: config, at least one')
    methods = {}
    for name, method in study.methods.items():
        method = dict(config=method) if isinstance(method, str) else method
        need(isinstance(method, dict) and isinstance(method.get('config'), str) and set(method) <= {'config', 'options'}
             and _texts(method.get('options', ())), f'methods[{name!r}]', method,
             "a config file or dict(config='...', options=['key=value'])")
        need(name != RANDOM, 'a method', name, 'called otherwise: that is the name of the untrained network')
        methods[name] = dict(config=method['config'], options=list(method.get('options', [])))
    for key in ('recipe', 'caveats'):
        need(_texts(getattr(study, key)), key, getattr(study, key), 'a list of texts')
    need(study.seeds and all(isinstance(s, int) and s >= 0 for s in study.seeds) and len(set(study.seeds)) == len(study.seeds), 'seeds',
         study.seeds, 'a list of different whole numbers of at least 0')
    need(isinstance(study.axes, dict) and all(isinstance(labels, dict) and labels and all(map(_texts, labels.values()))
                                              for labels in study.axes.values()), 'axes', study.axes,
         "a dict of axis: {label: ['key=value', ...]}")
    axes = {str(axis): {str(label): list(options) for label, options in labels.items()} for axis, labels in study.axes.items()}
    if study.tune is not None:
        factors = study.tune.factors
        need(len(factors) > 1 and all(isinstance(f, (int, float)) and f > 0 for f in factors) and len(set(factors)) == len(factors),
             'tune.factors', factors, 'two or more different numbers above 0')
        need(study.tune.seed not in study.seeds, 'tune.seed', study.tune.seed,
             'none of seeds: a run that served the choice is no measurement')
        need(_texts(study.tune.options), 'tune.options', study.tune.options, 'a list of texts')
    reference = study.reference or next(iter(methods))
    if reference not in methods:
        raise ConfigError(f'{path.name}: reference is {reference!r}: {nearest(reference, methods)}')
    study = replace(study, methods=methods, axes=axes, reference=reference)
    ids = [arm.id for arm in study.arms()]
    twice = next((i for i in ids if ids.count(i) > 1 or i == slug(RANDOM)), None)
    if twice:
        raise ConfigError(f'{path.name}: two rows would share the folder {twice}; give methods and labels names that differ in letters or '
                          f'digits')
    _check_evaluation(study.evaluate, path.name)
    for arm in study.arms():
        try:
            settings = arm.settings()
        except ConfigError as error:
            raise ConfigError(f'{path.name}: {" ".join([arm.method, *arm.place.values()])}: {error}') from None
        if settings.data.test is None or settings.data.val is None:
            raise ConfigError(f'{path.name}: {arm.method} has no data.{"test" if settings.data.test is None else "val"}; a study chooses '
                              f'on a hold-out and measures on test images, so give both in recipe')
        if study.tune is not None:
            number_in(settings, study.tune.key)
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
    missing = next((f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING and f.name not in given
                    and f.name not in own), None)
    if missing:
        raise ConfigError(f'{where} lacks {missing!r}; it takes {", ".join(names)}')
    return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}, **own)


def _texts(values) -> bool:
    return isinstance(values, (list, tuple)) and all(isinstance(v, str) for v in values)


def _check_evaluation(evaluate: Evaluation, where: str) -> None:
    try:
        for values, what in ((evaluate.k, 'k'), (evaluate.temperature, 'temperature')):
            if not values or not all(isinstance(v, (int, float)) and v > 0 for v in values):
                raise ConfigError(f'{what} is {values!r}, but it must be one or more numbers above 0')
        if evaluate.precision not in ('float32', 'bf16'):
            raise ConfigError(f"precision is {evaluate.precision!r}, but it must be 'float32' or 'bf16'")
        if evaluate.linear not in (None, 'logistic'):
            if evaluate.linear not in LINEAR:
                raise ConfigError(f'linear is {evaluate.linear!r}: {nearest(evaluate.linear, ["logistic", *LINEAR])}')
            evaluate.linear_preset()
        for labels in evaluate.labels:
            if not (SHARE.fullmatch(labels) or PER_CLASS.fullmatch(labels)):
                raise ConfigError(f"labels has {labels!r}, but it must be a share such as '1%', or a number such as '4-per-class'")
            evaluate.recipe_of(labels)
    except (ConfigError, TypeError) as error:
        raise ConfigError(f'{where}: evaluate: {error}') from None


def number_in(settings: Settings, key: str) -> float:
    """The number under a dotted key of a config, such as 'base_lr' or 'method.temperature'."""
    value = settings.plain()
    for name in key.split('.'):
        if isinstance(value, list) and name.isdigit() and int(name) < len(value):
            value = value[int(name)]
        elif isinstance(value, dict) and name in value:
            value = value[name]
        else:
            raise ConfigError(f'tune.key is {key!r}, which the config of {settings.method["type"]} does not have; base_lr is in all')
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigError(f'tune.key is {key!r}, which is {value!r} in the config of {settings.method["type"]}, and no number')
    return value


def fingerprint_of(value) -> str:
    """The first 16 hexadecimal digits of SHA-256 of nested plain values."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
