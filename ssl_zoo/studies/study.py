"""A study: methods x axes x seeds on one recipe, as a file in configs/studies/ defines it."""

import hashlib
import re
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from pathlib import Path

from ssl_zoo.config.builtin_values import to_builtin
from ssl_zoo.config.constraints import Constraint, constrained, whole_number
from ssl_zoo.config.loading import load_config
from ssl_zoo.config.settings import Settings
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
    if not values or not all(isinstance(value, int) and value >= 0 for value in values):
        return False
    return len(set(values)) == len(values)


def _are_axes(axes: dict) -> bool:
    return all(
        isinstance(labels, dict) and labels and all(map(are_texts, labels.values()))
        for labels in axes.values()
    )


texts = Constraint(are_texts, 'a list of texts')
factors = Constraint(_are_different_positive_numbers, 'two or more different numbers above 0')
different_seeds = Constraint(_are_seeds, 'a list of different whole numbers of at least 0')
named_methods = Constraint(bool, 'a dict of name: config, at least one')
labelled_axes = Constraint(_are_axes, "a dict of axis: {label: ['key=value', ...]}")


@dataclass(frozen=True)
class Tuning:
    """The search for one number of the config, with the same number of trials for each method.

    A trial is a training without test images. It is judged by k-NN on the hold-out, with
    ``online_eval.k`` and ``online_eval.temperature`` of the config. The best trial's factor is
    taken for all runs of the method, whatever their axis labels.

    Attributes:
        factors: what the number in the method's config is multiplied by.
        key: dotted config key of the number.
        seed: of the trials. It is none of the study's seeds, whose runs would otherwise be chosen
            by their own luck.
        options: changes to the configs of the trials alone, such as fewer epochs.
    """

    factors: tuple = constrained(factors)
    key: str = 'base_lr'
    seed: int = constrained(whole_number(at_least=0), default=1000)
    options: tuple = constrained(texts, default=())


@dataclass(frozen=True)
class StudyMethod:
    """A method of a study.

    Attributes:
        config: config file, relative to the file of the study.
        options: changes to the config in trials and runs.
        trial: further changes in trials alone.
    """

    config: str
    options: tuple = constrained(texts, default=())
    trial: tuple = constrained(texts, default=())


@dataclass(frozen=True)
class Arm:
    """A method under one combination of axis labels: a row in the study's tables.

    Attributes:
        method: its name in the study.
        labels: axis -> label.
        config: config file.
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
        title: for the report.
        methods: name -> StudyMethod.
        seeds: of the runs.
        question: what the study is to answer, for the report.
        caveats: what its scale can and cannot show.
        recipe: config options of all methods, such as 'epochs=100'.
        axes: axis -> {label: config options}. Every method runs under every combination of labels.
            The first label of each axis is the baseline.
        reference: the method that the others are compared with; '' takes the first one.
        tune: search for a number of the config; None takes the configs' own numbers.
        evaluate: how every run is judged.
        name: of the file, with '_small' for the small version.
        path: of the file.
        small: whether the file's ``small`` replaced the values that it names.
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

    def trial_options(self, arm: Arm) -> list[str]:
        """Return the config options of an arm's trials, without the number that is searched for.

        The trials have no test images, which are not for choices.
        """
        return [
            *arm.options,
            f'seed={self.tune.seed}',
            *self.tune.options,
            *self.methods[arm.method].trial,
            'data.test=None',
        ]

    def to_builtin(self) -> dict:
        """Return nested dicts of plain values for study.json, without the path."""
        return to_builtin(dict(asdict(replace(self, path=Path())), path=None))


def slug(text: str) -> str:
    """Return a name for a folder: lower-case letters, digits and ``_ . + -``.

    Other characters become _. If that loses more than spaces and case, a hash is appended, so that
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
            f'tune.key is {key!r}, which is {value!r} in the config of {method}, and no number'
        )
    return value
