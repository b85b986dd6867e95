"""Constraints on the values of a config, declared beside the fields of its dataclasses.

    @dataclass
    class Schedule:
        shape: str = constrained(one_of('cosine', 'steps'), default='cosine')

``check_fields`` then checks every field that has a constraint.
"""

from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from ssl_zoo.errors import ConfigError


@dataclass(frozen=True)
class Constraint:
    """A condition on one value.

    Attributes:
        holds: function that tells whether a value of the right type is allowed.
        allowed: the allowed values in words, such as 'a number above 0'.
    """

    holds: Callable[[Any], bool]
    allowed: str


positive = Constraint(lambda value: value > 0, 'a number above 0')
non_negative = Constraint(lambda value: value >= 0, 'a number of at least 0')
unit_interval = Constraint(lambda value: 0 <= value <= 1, 'a number from 0 to 1')


def whole_number(at_least: int) -> Constraint:
    """Whole numbers from ``at_least`` on."""
    return Constraint(lambda value: value >= at_least, f'a whole number of at least {at_least}')


def one_of(*values: object) -> Constraint:
    """One of these values."""
    *others, last = map(repr, values)
    return Constraint(lambda value: value in values, f'{", ".join(others)} or {last}')


def optional(constraint: Constraint, none: str = 'None') -> Constraint:
    """None, or what ``constraint`` allows. ``none`` describes None in the message."""
    return Constraint(
        lambda value: value is None or constraint.holds(value),
        f'{constraint.allowed}, or {none}',
    )


def constrained(constraint: Constraint, default: object = MISSING) -> Any:
    """A dataclass field with a constraint; required if there is no default."""
    return field(default=default, metadata={'constraint': constraint})


def check_fields(instance: Any, prefix: str) -> None:
    """Raise ConfigError for the first field of a dataclass that violates its constraint.

    Args:
        instance: instance of a dataclass, whose values have the types of their fields.
        prefix: text before a field's name in the message, such as 'schedule.'.
    """
    for item in fields(instance):
        constraint = item.metadata.get('constraint')
        if constraint is not None:
            value = getattr(instance, item.name)
            require(constraint.holds(value), prefix + item.name, value, constraint.allowed)


def require(holds: bool, key: str, value: object, allowed: str) -> None:
    """Unless ``holds``, raise ConfigError with the key, the value and the allowed values."""
    if not holds:
        raise ConfigError(f'{key}={value!r}, but it must be {allowed}')
