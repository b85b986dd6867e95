"""A study: methods x axes x seeds on one recipe, defined by a file in configs/studies/."""

import hashlib
import re
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from pathlib import Path

from ssl_zoo.config.builtin_values import to_builtin
from ssl_zoo.config.constraints import Constraint, constrained
from ssl_zoo.config.loading import load_config
from ssl_zoo.config.settings import Settings, random_seed
from ssl_zoo.errors import ConfigError
from ssl_zoo.studies.evaluation import Evaluation

RANDOM_WEIGHTS = 'random weights'  # the name of the untrained network in tables


def are_texts(values: object) -> bool:
    """Return whether a value is a list or tuple of strings."""
    return isinstance(values, (list, tuple)) and all(isinstance(value, str) for value in values)


def _are_different_positive_numbers(values: tuple) -> bool:
    if len(values) < 2 or not all(isinstance(value, (int, float)) for value in values):
        return False
    return min(values) > 0 and len(set(values)) == len(values)


def _are_seeds(values: tuple) -> bool:
    if not values or not all(isinstance(value, int) and 0 <= value < 2**32 for value in values):
        return False
    return len(set(values)) == len(values)


def _are_labelled_options(labels: object) -> bool:
    return isinstance(labels, dict) and all(map(are_texts, labels.values()))


def _are_axes(axes: dict) -> bool:
    return all(labels and _are_labelled_options(labels) for labels in axes.values())


texts = Constraint(are_texts, 'a list of texts')
factors = Constraint(_are_different_positive_numbers, 'two or more different numbers above 0')
different_seeds = Constraint(
    _are_seeds, 'a list of different whole numbers of at least 0 and below 2**32'
)
named_methods = Constraint(bool, 'a dict of name: config, at least one')
labelled_options = Constraint(_are_labelled_options, "a dict of label: ['key=value', ...]")
labelled_axes = Constraint(_are_axes, "a dict of axis: {label: ['key=value', ...]}")


@dataclass(frozen=True)
class Tuning:
    """The search for one number of the config, with the same number of trials for each method.

    Where the methods have ``variants``, each variant is tried with each factor.

    A trial is a training without test images. Its figure is the k-NN accuracy on the hold-out,
    with ``online_eval.k`` and ``online_eval.temperature`` of the config. All runs of the method
    use the best trial's factor, whatever their axis labels.

    Attributes:
        factors: factors of the trials; each multiplies the number in the method's config.
        key: dotted config key of the number.
        seed: seed of the trials, which must not be one of the study's seeds: the factor would be
            chosen by the luck of a run that is then measured.
        options: changes to the configs of the trials alone, such as fewer epochs.
    """

    factors: tuple = constrained(factors)
    key: str = 'base_lr'
    seed: int = constrained(random_seed, default=1000)
    options: tuple = constrained(texts, default=())


@dataclass(frozen=True)
class StudyMethod:
    """A method of a study.

    Attributes:
        config: config file, relative to the file of the study.
        options: changes to the config in trials and runs.
        trial: further changes in trials alone.
        variants: label -> changes to the config, such as {'decay 0.9': ['method.base_ema=0.9']}.
            Each factor of ``tune`` is tried with each variant, and the runs use the best pair. All
            methods of a study have the same number of variants.
    """

    config: str
    options: tuple = constrained(texts, default=())
    trial: tuple = constrained(texts, default=())
    variants: dict = field(default_factory=dict, metadata={'constraint': labelled_options})


@dataclass(frozen=True)
class Arm:
    """A method under one combination of axis labels: a row in the study's tables.

    Attributes:
        method: name of the method in the study.
        labels: axis -> label.
        config: path of the config file.
        options: changes to the config by recipe, method, axes and command line, in this order.
    """

    method: str
    labels: dict
    config: Path
    options: tuple[str, ...]

    @property
    def id(self) -> str:
        """Name of the arm's folder."""
        return slug('-'.join([self.method, *self.labels.values()]))

    @property
    def name(self) -> str:
        """Method and labels, for people."""
        return ' '.join([self.method, *self.labels.values()])

    def settings(self, *more_options: str) -> Settings:
        """Return the settings of the arm's runs.

        Raises:
            ConfigError: an option or the config has a mistake.
        """
        return load_config(self.config, [*self.options, *more_options])


@dataclass(frozen=True)
class Study:
    """What a file in configs/studies/ defines.

    Attributes:
        title: title of the report.
        methods: name -> StudyMethod.
        seeds: seeds of the runs.
        question: question that the study answers, for the report.
        caveats: what the scale of the study can and cannot show.
        recipe: config options of all methods, such as 'epochs=100'.
        axes: axis -> {label: config options}. Every method runs under every combination of labels.
            The first label of each axis is the baseline.
        reference: the method that the others are compared with; '' for the first method.
        tune: search for a number of the config; None keeps the configs' own numbers.
        evaluate: how every run is evaluated.
        name: name of the file, with '_small' for the small version.
        path: path of the file.
        small: whether the values of the file's dict ``small`` replaced those of the full study.
        changes: config options from the command line, which override all others.
    """

    title: str
    methods: dict = constrained(named_methods)
    seeds: tuple = constrained(different_seeds)
    question: str = ''
    caveats: tuple = constrained(texts, default=())
    recipe: tuple = constrained(texts, default=())
    axes: dict = field(default_factory=dict, metadata={'constraint': labelled_axes})
    reference: str = ''
    tune: Tuning | None = None
    evaluate: Evaluation = field(default_factory=Evaluation)
    name: str = ''
    path: Path = Path()
    small: bool = False
    changes: tuple = ()

    def arms(self) -> list[Arm]:
        """Return every method under every combination of labels, method by method."""
        arms = []
        for name, method in self.methods.items():
            config = self.path.parent / method.config
            for combination in product(*self.axes.values()):
                labels = dict(zip(self.axes, combination, strict=True))
                axis_options = [
                    option for axis, label in labels.items() for option in self.axes[axis][label]
                ]
                options = (*self.recipe, *method.options, *axis_options, *self.changes)
                arms.append(Arm(name, labels, config, options))
        return arms

    def is_baseline(self, arm: Arm) -> bool:
        """Return whether an arm has the first label of every axis."""
        baseline = {axis: next(iter(labels)) for axis, labels in self.axes.items()}
        return arm.labels == baseline

    def variants_of(self, method: str) -> dict[str, tuple[str, ...]]:
        """Return label -> config options of a method's variants; {'': ()} if it has none."""
        variants = self.methods[method].variants
        return {str(label): tuple(options) for label, options in variants.items()} or {'': ()}

    def with_variant(self, arm: Arm, variant: str) -> Arm:
        """Return the arm with the options of a variant, which its axes and the command override."""
        own = (*self.recipe, *self.methods[arm.method].options)
        rest = arm.options[len(own) :]
        options = (*own, *self.variants_of(arm.method)[variant], *rest)
        return replace(arm, options=options)

    def trial_options(self, arm: Arm, variant: str) -> list[str]:
        """Return the config options of an arm's trials, without the number that is tuned.

        The trials have no test images, because no choice may depend on test images.
        """
        return [
            *self.with_variant(arm, variant).options,
            f'seed={self.tune.seed}',
            *self.tune.options,
            *self.methods[arm.method].trial,
            'data.test=None',
        ]

    def to_builtin(self) -> dict:
        """Return nested dicts of plain values for study.json, without the path."""
        return to_builtin(dict(asdict(replace(self, path=Path())), path=None))


def slug(text: str) -> str:
    """Return a folder name for a text: lower-case letters, digits and ``_ . + -``.

    Other characters become _. If more than spaces and case are lost, a hash is appended, so that
    different texts get different names.
    """
    name = re.sub(r'[^A-Za-z0-9.+-]+', '_', text).strip('_.').lower()
    if re.sub(r'[ _]', '', text).lower() == name.replace('_', ''):
        return name
    return f'{name}-{hashlib.sha256(text.encode()).hexdigest()[:6]}'


def number_in(settings: Settings, key: str) -> float:
    """Return the number under a dotted config key, such as 'base_lr' or 'method.temperature'.

    Raises:
        ConfigError: the config has no such key, or its value is not a number.
    """
    method = settings.method['type']
    value = settings.to_builtin()
    for name in key.split('.'):
        if isinstance(value, list) and name.isdigit() and int(name) < len(value):
            value = value[int(name)]
        elif isinstance(value, dict) and name in value:
            value = value[name]
        else:
            raise ConfigError(
                f'tune.key is {key!r}, which the config of {method} does not have; '
                'all configs have base_lr'
            )
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigError(
            f'tune.key is {key!r}, but its value in the config of {method} is {value!r}, not a '
            'number'
        )
    return value
