"""A study: methods x axes x seeds on one shared recipe, written as a small config in configs/studies/."""

import hashlib
import re
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from pathlib import Path

from ssl_zoo.config.builtin_values import to_builtin
from ssl_zoo.config.loading import load_config
from ssl_zoo.config.settings import Settings
from ssl_zoo.errors import ConfigError
from ssl_zoo.evaluation.recipes import FINETUNE, Recipe, linear_preset, logspace
from ssl_zoo.storage.digest import sha256_of_json

RANDOM = 'random weights'  # the name of the untrained network in tables


@dataclass(frozen=True)
class Tuning:
    """The search for one number of the config, for each method apart, with the same number of trials for each.

    A trial is a training without test images, judged by k-NN on the hold-out (online_eval.k and online_eval.temperature of the config). The
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
        linear: 'logistic' (L-BFGS on features without augmentation), the name of a preset of tools/linear.py (the frozen
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
        return FINETUNE.with_changes(
            **self.finetune.get(
                labels, {} if set(self.finetune) & set(self.labels) else self.finetune
            )
        )

    def linear_preset(self) -> Recipe:
        return linear_preset(self.linear).with_changes(**self.linear_recipe)

    def metrics(self) -> list[dict]:
        """key, name and protocol of every figure of a run."""

        def choice(values, what):
            return (
                f'{what} = {values[0]:g}'
                if len(values) == 1
                else f'{what} of {len(values)} chosen on the hold-out'
            )

        rows = [
            dict(
                key='knn',
                name='k-NN',
                protocol=f'weighted vote, {choice(self.k, "k")}, {choice(self.temperature, "T")}, cosine',
            )
        ]
        if self.linear == 'logistic':
            rows.append(
                dict(
                    key='linear',
                    name='linear',
                    protocol='logistic regression (L-BFGS) on features without augmentation, '
                    f'strength of {len(self.strengths)} chosen on the hold-out',
                )
            )
        elif self.linear:
            recipe = self.linear_preset()
            rows.append(
                dict(
                    key='linear',
                    name='linear',
                    protocol=f'frozen protocol {self.linear!r}, {len(recipe.lrs)} learning rates '
                    f'to choose from on the hold-out, {recipe.epochs[0]:g} epochs',
                )
            )
        for labels in self.labels:
            recipe = self.recipe_of(labels)
            rows.append(
                dict(
                    key=labels,
                    name=f'{labels} of the labels' if labels.endswith('%') else labels,
                    protocol=(
                        f'whole network fine-tuned, {" or ".join(f"{e:g}" for e in recipe.epochs)} epochs, {len(recipe.lrs)} learning rates, '
                        f'chosen on the hold-out'
                    ),
                )
            )
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
        methods: name -> config file (relative to the study's), or dict(config=..., options=[...], trial=[...]), with options of all its
            trainings and of its trials alone.
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
                options = [
                    option for axis, label in place.items() for option in self.axes[axis][label]
                ]
                options = (*self.recipe, *method['options'], *options, *self.changes)
                out.append(Arm(name, place, self.path.parent / method['config'], options))
        return out

    def trial_options(self, arm: Arm) -> list[str]:
        """Options of every trial, before the number that is searched for: without test images, which are not for choices."""
        return [
            *arm.options,
            f'seed={self.tune.seed}',
            *self.tune.options,
            *self.methods[arm.method]['trial'],
            'data.test=None',
        ]

    def to_builtin(self) -> dict:
        """As nested dicts of plain values, for study.json and for the report."""
        return to_builtin(dict(asdict(replace(self, path=Path())), path=None))


def slug(text: str) -> str:
    """A name for a folder: letters, digits and what a file system takes; others become _, and a hash keeps such names apart."""
    short = re.sub(r'[^A-Za-z0-9.+-]+', '_', text).strip('_.').lower()
    kept = re.sub(r'[ _]', '', text).lower() == short.replace('_', '')
    return short if kept else f'{short}-{hashlib.sha256(text.encode()).hexdigest()[:6]}'


def number_in(settings: Settings, key: str) -> float:
    """The number under a dotted key of a config, such as 'base_lr' or 'method.temperature'."""
    value = settings.to_builtin()
    for name in key.split('.'):
        if isinstance(value, list) and name.isdigit() and int(name) < len(value):
            value = value[int(name)]
        elif isinstance(value, dict) and name in value:
            value = value[name]
        else:
            raise ConfigError(
                f'tune.key is {key!r}, which the config of {settings.method["type"]} does not have; base_lr is in all'
            )
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigError(
            f'tune.key is {key!r}, which is {value!r} in the config of {settings.method["type"]}, and no number'
        )
    return value


def fingerprint_of(value) -> str:
    """The first 16 hexadecimal digits of SHA-256 of nested plain values."""
    return sha256_of_json(value)[:16]
