"""How a study evaluates its runs, as the study file defines it."""

from dataclasses import dataclass, field

from ssl_zoo.config.constraints import Constraint, check_fields, constrained, one_of
from ssl_zoo.data.label_lists import PER_CLASS, SHARE
from ssl_zoo.errors import ConfigError, nearest
from ssl_zoo.evaluation.logistic import check_strengths
from ssl_zoo.evaluation.recipes import FINETUNE, LINEAR, Recipe, linear_preset, logspace


def _are_whole_numbers(values: tuple) -> bool:
    return bool(values) and all(isinstance(value, int) and value > 0 for value in values)


def _are_numbers(values: tuple) -> bool:
    return bool(values) and all(isinstance(value, (int, float)) and value > 0 for value in values)


def _are_label_subsets(values: tuple) -> bool:
    for value in map(str, values):
        share = SHARE.fullmatch(value)
        is_share = share and 0 < float(share[1]) <= 100
        if not is_share and not PER_CLASS.fullmatch(value):
            return False
    return True


whole_numbers = Constraint(_are_whole_numbers, 'one or more whole numbers above 0')
positive_numbers = Constraint(_are_numbers, 'one or more numbers above 0')
label_subsets = Constraint(
    _are_label_subsets, "a list of shares such as '1%' and of numbers such as '4-per-class'"
)


@dataclass(frozen=True)
class Evaluation:
    """How every run of a study is evaluated.

    Choices are made on the hold-out, and figures are measured on the test images.

    Attributes:
        k: numbers of neighbours of the k-NN vote; the best on the hold-out is used.
        temperature: temperatures of the k-NN vote; the best on the hold-out is used.
        linear: 'logistic' (L-BFGS on features without augmentation), the name of a preset of
            tools/linear.py (the frozen protocol with random crops), or None for no linear
            evaluation.
        linear_recipe: changes to that preset, such as dict(epochs=(10,)).
        strengths: penalties to choose from for 'logistic'.
        labels: label subsets; the whole network is fine-tuned once on each: '1%', '10%',
            '4-per-class' ...
        finetune: changes to the fine-tuning recipe (``FINETUNE``), either one dict for all label
            subsets, or one for each: {'1%': dict(...), ...}.
        precision: precision of the network.
    """

    k: tuple = constrained(whole_numbers, default=(20,))
    temperature: tuple = constrained(positive_numbers, default=(0.07,))
    linear: str | None = 'logistic'
    linear_recipe: dict = field(default_factory=dict)
    strengths: tuple = logspace(1e3, 1e-4, 8)
    labels: tuple = constrained(label_subsets, default=('1%', '10%'))
    finetune: dict = field(default_factory=dict)
    precision: str = constrained(one_of('float32', 'bf16'), default='float32')

    def finetune_recipe(self, labels: str) -> Recipe:
        """Return the fine-tuning recipe of a label subset."""
        changes = self.finetune
        if set(changes) & set(self.labels):  # each subset has its own changes
            changes = changes.get(labels, {})
        return FINETUNE.with_changes(**changes)

    def linear_preset(self) -> Recipe:
        """Return the recipe of the linear evaluation on the frozen encoder."""
        return linear_preset(self.linear).with_changes(**self.linear_recipe)

    def metrics(self) -> list[dict]:
        """Return key, name and protocol of every figure of a run."""
        k = _choice('k', self.k)
        temperature = _choice('T', self.temperature)
        knn = dict(key='knn', name='k-NN', protocol=f'weighted vote, {k}, {temperature}, cosine')
        rows = [knn]
        if self.linear:
            rows.append(dict(key='linear', name='linear', protocol=self._linear_protocol()))
        for labels in self.labels:
            name = f'{labels} of the labels' if labels.endswith('%') else labels
            protocol = self._finetune_protocol(labels)
            rows.append(dict(key=labels, name=name, protocol=protocol))
        return rows

    def _linear_protocol(self) -> str:
        if self.linear == 'logistic':
            return (
                'logistic regression (L-BFGS) on features without augmentation, '
                f'strength of {len(self.strengths)} chosen on the hold-out'
            )
        recipe = self.linear_preset()
        return (
            f'frozen protocol {self.linear!r}, {len(recipe.lrs)} learning rates to choose from '
            f'on the hold-out, {recipe.epochs[0]:g} epochs'
        )

    def _finetune_protocol(self, labels: str) -> str:
        recipe = self.finetune_recipe(labels)
        epochs = ' or '.join(f'{epochs:g}' for epochs in recipe.epochs)
        return (
            f'whole network fine-tuned, {epochs} epochs, {len(recipe.lrs)} learning rates, '
            'chosen on the hold-out'
        )


def _choice(name: str, values: tuple) -> str:
    if len(values) == 1:
        return f'{name} = {values[0]:g}'
    return f'{name} of {len(values)} chosen on the hold-out'


def check_evaluation(evaluation: Evaluation, prefix: str) -> None:
    """Check all values, and that every recipe can be made.

    Args:
        evaluation: values of the right types.
        prefix: text before a key in messages, such as 'digits.py: evaluate.'.

    Raises:
        ConfigError: a value is not allowed.
    """
    check_fields(evaluation, prefix)
    try:
        if evaluation.linear == 'logistic':
            _check_strengths(evaluation.strengths)
        elif evaluation.linear is not None:
            _check_preset(evaluation)
        for labels in evaluation.labels:
            evaluation.finetune_recipe(labels)
    except (ConfigError, TypeError) as error:  # a recipe without such a key raises TypeError
        raise ConfigError(f'{prefix.rstrip(".")}: {error}') from None


def _check_strengths(strengths: tuple) -> None:
    if not strengths:
        raise ConfigError("strengths=(), but linear='logistic' needs one or more numbers above 0")
    check_strengths(strengths)


def _check_preset(evaluation: Evaluation) -> None:
    if evaluation.linear not in LINEAR:
        allowed = nearest(evaluation.linear, ['logistic', *LINEAR])
        raise ConfigError(f'linear is {evaluation.linear!r}: {allowed}')
    evaluation.linear_preset()
