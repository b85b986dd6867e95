"""The JSON files of a study as data that somebody else may have changed: study.json, record.json.

Code that reads a record or a definition relies on the types that are declared here. A key that is
declared here may be missing, unless it is required; other keys may have any value.
"""

import math
from pathlib import Path

from ssl_zoo.config.constraints import Constraint, one_of, optional
from ssl_zoo.storage.reading import parse_json, read_regular

MAX_ARMS = 10_000
KINDS = ('trial', 'run', 'baseline')
Fields = dict[str, Constraint]


def is_number(value: object) -> bool:
    """Return whether a value of a record is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def list_of(item: Constraint, allowed: str) -> Constraint:
    """A list whose items all fulfil a constraint."""
    return Constraint(
        lambda value: isinstance(value, list) and all(map(item.holds, value)), allowed
    )


def dict_of(item: Constraint, allowed: str) -> Constraint:
    """A dict whose values all fulfil a constraint."""
    return Constraint(
        lambda value: isinstance(value, dict) and all(map(item.holds, value.values())), allowed
    )


def dict_with(fields: Fields, allowed: str, required: tuple[str, ...] = ()) -> Constraint:
    """A dict with these fields."""

    def holds(value: object) -> bool:
        if not isinstance(value, dict) or any(name not in value for name in required):
            return False
        return all(field.holds(value[name]) for name, field in fields.items() if name in value)

    return Constraint(holds, allowed)


def of_type(*types: type, allowed: str) -> Constraint:
    """A value of one of these types."""
    return Constraint(lambda value: isinstance(value, types), allowed)


anything = Constraint(lambda value: True, 'anything')
text = of_type(str, allowed='a text')
number = Constraint(is_number, 'a finite number')
amount = Constraint(lambda value: is_number(value) and value >= 0, 'a number of at least 0')
percentage = Constraint(
    lambda value: is_number(value) and 0 <= value <= 100, 'a number from 0 to 100'
)
whole = Constraint(_is_whole, 'a whole number')
texts = list_of(text, 'a list of texts')
plain_list = of_type(list, allowed='a list')
plain_dict = of_type(dict, allowed='a dict')
# A label of an axis may be a number in the file.
labels = dict_of(of_type(str, int, float, allowed='a label'), 'a dict of axis: label')
manifests = dict_of(optional(text), 'a dict of part: hash of its images')

AMOUNTS = (
    'epochs',
    'steps',
    'images',
    'train_seconds',
    'total_seconds',
    'images_per_second',
    'peak_memory_bytes',
    'devices',
    'device_hours',
    'parameters',
)
COST: Fields = dict.fromkeys(AMOUNTS, optional(amount))
COST |= dict(memory_of=optional(text), device=optional(text))
RECORD: Fields = dict(
    kind=one_of(*KINDS),
    status=text,
    error=optional(text),
    time=number,
    method=text,
    seed=optional(whole),
    options=optional(plain_list),
    axes=optional(labels),
    figures=optional(dict_of(optional(percentage), 'a dict of metric: number from 0 to 100')),
    val_knn=optional(percentage),
    n_test=optional(whole),
    n_val=optional(whole),
    test_manifest=optional(text),
    data=optional(manifests),
    key=text,
    factor=number,
    value=number,
    lr=optional(
        dict_with(dict(key=text, factor=number, value=number), 'a dict of key, factor and value')
    ),
    cost=optional(dict_with(COST, 'a dict of numbers of at least 0')),
    checkpoint=optional(text),
    checkpoint_sha256=optional(text),
    config=optional(plain_dict),
)

METHOD: Fields = dict(config=text, options=optional(plain_list))
TUNE: Fields = dict(
    key=text, factors=list_of(number, 'a list of numbers'), options=optional(plain_list)
)
DEFINITION: Fields = dict(
    name=text,
    title=text,
    question=optional(text),
    caveats=texts,
    methods=dict_of(dict_with(METHOD, 'a method'), 'a dict of name: config and options'),
    axes=optional(
        dict_of(
            Constraint(lambda value: isinstance(value, (list, dict)) and bool(value), 'labels'),
            'a dict of axis: labels, at least one',
        )
    ),
    seeds=list_of(whole, 'a list of whole numbers'),
    reference=text,
    metrics=list_of(
        dict_with(dict(key=text, name=text, protocol=optional(text)), 'a metric', ('key', 'name')),
        'a list of dicts of key and name',
    ),
    tune=optional(dict_with(TUNE, 'a dict of key and factors')),
    arms=list_of(
        dict_with(dict(method=text, axes=optional(labels)), 'an arm', ('method',)),
        'a list of dicts of method and axes',
    ),
    recipe=optional(plain_list),
    changes=optional(plain_list),
    versions=optional(plain_dict),
)


def read_fields(path: Path, fields: Fields, required: tuple[str, ...]) -> dict:
    """Return the content of a JSON file whose declared fields have the declared values.

    Raises:
        OSError: the file cannot be read, see ``read_regular``.
        ValueError: the file is not a JSON object, or a field is missing or has another value.
    """
    content = parse_json(read_regular(path))
    if not isinstance(content, dict):
        raise ValueError('it is not a JSON object')
    for name in required:
        if name not in content:
            raise ValueError(f'it has no {name!r}')
    for name, field in fields.items():
        if name in content and not field.holds(content[name]):
            shown = f'{content[name]!r}'
            shown = shown if len(shown) < 80 else f'{shown[:77]}...'
            raise ValueError(f'its {name} is {shown}, but it must be {field.allowed}')
    return content


def read_record(folder: Path) -> dict:
    """Return the record.json of a job's folder.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is damaged.
    """
    return read_fields(folder / 'record.json', RECORD, ('kind',))


def is_done(record: dict) -> bool:
    """Return whether a record is that of a job that is done, with all that later jobs need."""
    if record.get('status') != 'done':
        return False
    needed = ('key', 'factor', 'value', 'val_knn') if record['kind'] == 'trial' else ('figures',)
    return all(name in record for name in needed)


def measured_figures(figures: dict[str, dict]) -> dict:
    """Return the entries of a record for the figures that a job has saved in its progress."""
    first = next(iter(figures.values()))
    return dict(
        figures={key: figure['value'] for key, figure in figures.items()},
        protocols={key: figure['protocol'] for key, figure in figures.items()},
        n_test=first['n'],
        test_manifest=first['manifest'],
        data=first['data'],
    )


def record_or_none(folder: Path) -> dict | None:
    """Return the record.json of a job's folder; None if there is none, or it is damaged."""
    try:
        return read_record(folder)
    except (OSError, ValueError):
        return None


def read_definition(out: Path) -> dict:
    """Return the study.json of a study's folder.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is damaged, or its axes give more than ``MAX_ARMS`` arms.
    """
    required = ('name', 'methods', 'reference', 'metrics')
    definition = read_fields(out / 'study.json', DEFINITION, required)
    defaults = dict(title=definition['name'], caveats=[], axes={}, seeds=[], tune=None)
    definition = {**defaults, **definition}
    axes = definition['axes'] or {}
    definition['axes'] = {axis: [str(label) for label in labels] for axis, labels in axes.items()}
    for arm in definition.get('arms', ()):
        if (arm.get('axes') or {}).keys() != definition['axes'].keys():
            raise ValueError(f'the axes of its arm {arm["method"]} are not those of the study')
    arms = len(definition.get('arms', definition['methods']))
    if 'arms' not in definition:
        arms *= math.prod(map(len, definition['axes'].values()))
    if arms > MAX_ARMS:
        raise ValueError(f'it has {arms:,} arms, but at most {MAX_ARMS:,} are read')
    return definition
