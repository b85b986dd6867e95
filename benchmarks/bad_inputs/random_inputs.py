"""Random options, plans, checkpoints, lists, patterns and shards; the same in every run.

Each input must give a result or a ConfigError: any other exception would reach the user.
"""

import re
import shlex
import traceback
from collections.abc import Callable
from pathlib import Path

from campaign import OutOfTime, Result, time_limit
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from inputs import UNUSUAL_VALUES

from ssl_zoo.checkpoint import read_checkpoint
from ssl_zoo.config.loading import load_config
from ssl_zoo.config.settings import (
    Checkpoints,
    Data,
    OnlineEvaluation,
    Parallel,
    Schedule,
    Settings,
    settings_from_dict,
)
from ssl_zoo.data.label_lists import draw_labels, read_list
from ssl_zoo.data.sources.file_list import FileList
from ssl_zoo.data.sources.folder import ImageFolder
from ssl_zoo.data.sources.shard_paths import find_shards
from ssl_zoo.data.sources.shards import TarShards
from ssl_zoo.data.views import View
from ssl_zoo.engine.plan import Plan
from ssl_zoo.errors import ConfigError
from ssl_zoo.storage.digest import sha256_of_tensors

SECONDS = 20  # limit for one input
# Settings and the prefix of their keys in a config.
SECTIONS = {
    '': Settings,
    'data.': Data,
    'online_eval.': OnlineEvaluation,
    'checkpoint.': Checkpoints,
    'parallel.': Parallel,
    'schedule.': Schedule,
    'views.0.': View,
}
OTHER_KEYS = """
views.1
views.7.size
method.type
method.hidden_dim
method.proj_dim
method.base_ema
method.backbone.name
method.backbone.width
method.backbone.layers
optimizer.type
optimizer.momentum
optimizer.lr
optimizer.x
data.train.type
data.train.root
data.train.limit
presets
""".split()
NUMERIC_KEYS = """
epochs
batch_size
base_lr
weight_decay
weight_decay_end
warmup_epochs
max_device_batch
norm_and_bias_lr
clip_grad
seed
log_every
""".split()
FILE_NAMES = (
    'images/train/a/train0.png',
    'images/train/b/train1.png',
    'a/train0.png',
    'train0.png',
    '.',
    '..',
    '/',
)
# Text that may follow a file's name in a list.
LABELS = ('', '\t0', '\tdog', ' 1', '\t', '\t99999999999', '\t-1', '\t²', '\t٣', '\ta\tb')
LABEL_UNITS = ('%', '-per-class', '.%', ' %')
PATTERN_PARTS = (
    *('{', '}', '{0..3}', '{a,b}', '{000..146}', '{9..0}', '{0..99999999999}', ',', '..'),
    *('*', '**', '?', '[', ']', '[a-', '/', '~', 'shard-', '.tar', '\0', 'x' * 300),
)

NUMBERS = st.one_of(st.integers(), st.integers(0, 300), st.floats(), st.floats(0, 3))


def try_random_inputs(examples: int, home: Path, names: dict[str, str], result: Result) -> None:
    """Try random inputs of every kind.

    Args:
        examples: number of inputs of each kind.
        home: folder of the campaign's files.
        names: values for the names in braces, see Campaign.
        result: the count to which the inputs are added.
    """
    attempts = Attempts(examples, result)
    checkpoint = Path(names['ckpt'])
    try_options(attempts, names['good'])
    try_plans(attempts, names['good'])
    try_spliced_checkpoints(attempts, checkpoint, home.parent / 'spliced.pth')
    try_lists(attempts, home)
    try_labels(attempts, home)
    try_shard_patterns(attempts, home)
    try_spliced_shards(attempts, home / 'shards/shard-000000.tar', home.parent / 'spliced')


class Attempts:
    """Runs random inputs and counts their outcomes.

    Args:
        examples: number of inputs of each kind.
        result: the count to which the inputs are added.
    """

    def __init__(self, examples: int, result: Result):
        self.result = result
        self.places: set[tuple] = set()  # lines of code of the failures so far
        self.settings = settings(
            max_examples=examples,
            derandomize=True,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )

    def run(self, function: Callable) -> None:
        """Call a function decorated by hypothesis' ``given`` with all its inputs."""
        self.settings(function)()

    def attempt(self, kind: str, text: str, function: Callable[[], object]) -> None:
        """Call a function and count its input.

        Failures that the same line of code raises count once.
        """
        try:
            with time_limit(SECONDS):
                function()
        except ConfigError as error:
            message = str(error)
            has_sentence = message.strip() and '\n' not in message[:5]
            self.result.add(kind, text, None if has_sentence else 'an error without a sentence')
        except (Exception, OutOfTime) as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            place = (kind, type(error), frame.filename, frame.lineno)
            if place not in self.places:
                fault = 'an exception reaches the user'
                self.result.add(kind, text, fault, traceback.format_exc())
            self.places.add(place)
        else:
            self.result.add(kind, text, None)


def try_options(attempts: Attempts, config: str) -> None:
    """Try one to four random options on a good config."""
    keys = [prefix + name for prefix, cls in SECTIONS.items() for name in cls.__dataclass_fields__]
    key = st.sampled_from([*keys, *OTHER_KEYS])
    literal = st.recursive(
        st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=5)),
        lambda inner: st.one_of(
            st.lists(inner, max_size=4),
            st.tuples(inner, inner),
            st.dictionaries(st.text(max_size=5), inner, max_size=3),
        ),
        max_leaves=6,
    )
    value = st.one_of(
        NUMBERS.map(repr), literal.map(repr), st.sampled_from(UNUSUAL_VALUES), st.text(max_size=20)
    )
    assignment = st.builds('{}={}'.format, key, value)
    # Two of three options are assignments.
    option = st.one_of(assignment, st.builds('{}={}'.format, key, value), st.text(max_size=20))

    @given(st.lists(option, min_size=1, max_size=4))
    def random_options(options):
        attempts.attempt(
            'random options', shlex.join(options), lambda: load_config(config, options)
        )

    attempts.run(random_options)


def try_plans(attempts: Attempts, config: str) -> None:
    """Try random schedules and numbers, similar enough to valid ones that some pass the checks."""
    number = st.one_of(
        st.integers(0, 10), st.integers(1, 10**6), st.floats(0, 5), st.floats(0, 1e300), NUMBERS
    )
    likely = dict.fromkeys(NUMERIC_KEYS, number)
    likely['accumulate'] = st.one_of(st.just('auto'), st.integers(1, 64))
    schedules = st.fixed_dictionaries(
        {},
        optional=dict(
            shape=st.sampled_from(['cosine', 'steps']),
            start=st.floats(0, 1),
            end=st.floats(0, 1),
            gamma=st.floats(0, 1),
            per_epoch=st.booleans(),
            milestones=st.lists(st.one_of(st.integers(1, 9), st.floats(0, 9)), max_size=3),
        ),
    )
    changes = st.fixed_dictionaries({}, optional=likely)
    base = load_config(config).to_builtin()

    @given(changes, schedules, st.integers(1, 10**7), st.integers(1, 16))
    def random_plans(changes, schedule, images, processes):
        text = f'{changes} {schedule} images={images} processes={processes}'
        config = {**base, 'schedule': schedule, **changes}
        attempts.attempt('random plans', text, lambda: check_plan(config, images, processes))

    attempts.run(random_plans)


def check_plan(config: dict, images: int, processes: int) -> None:
    """Raise ValueError if a learning rate or weight decay of the plan is negative or infinite.

    The steps checked are the first two, the end of the warm-up, the middle and the last.
    """
    plan = Plan.of(settings_from_dict(config), images, processes)
    last = plan.steps - 1
    for step in {0, 1, min(plan.warmup_steps, last), plan.steps // 2, last}:
        lr = plan.lr(step)
        weight_decay = plan.weight_decay(step)
        if not 0 <= lr < float('inf') or not 0 <= weight_decay < float('inf'):
            raise ValueError(f'lr {lr}, weight decay {weight_decay} at step {step}')


def try_spliced_checkpoints(attempts: Attempts, checkpoint: Path, path: Path) -> None:
    """Try checkpoints with some bytes replaced: none may be read as other content."""
    data = checkpoint.read_bytes()
    digest = sha256_of_tensors(read_checkpoint(checkpoint))

    def read_spliced(start: int, cut: int, new: bytes) -> None:
        path.write_bytes(data[:start] + new + data[start + cut :])

        def read() -> None:
            if sha256_of_tensors(read_checkpoint(path)) != digest:
                raise ValueError('other content was read')

        attempts.attempt('spliced checkpoints', f'{start}, {cut}, {new!r}', read)

    cuts = st.one_of(st.integers(0, 40), st.integers(0, len(data)))

    @given(st.integers(0, len(data)), cuts, st.binary(max_size=40))
    def spliced(start, cut, new):
        read_spliced(start, cut, new)

    # Positions outside the bytes of tensors: mostly the zip's directory and the pickle.
    heads = [match.start() for match in re.finditer(rb'PK|data\.pkl|torch|sha256|config', data)]

    @given(st.sampled_from(heads), st.integers(-8, 60), st.binary(min_size=1, max_size=4))
    def spliced_heads(start, offset, new):
        read_spliced(max(start + offset, 0), len(new), new)

    attempts.run(spliced)
    attempts.run(spliced_heads)


def try_lists(attempts: Attempts, home: Path) -> None:
    """Try random lists of files, and of files with labels."""
    name = st.one_of(st.sampled_from(FILE_NAMES), st.text(max_size=12))
    row = st.builds('{}{}'.format, name, st.sampled_from(LABELS))
    rows = st.lists(row, max_size=5).map(
        lambda rows: '\n'.join(rows).encode(errors='surrogatepass')
    )
    source = ImageFolder(f'{home}/images/train')
    path = home.parent / 'random.txt'

    @given(st.one_of(rows, st.binary(max_size=60)))
    def random_lists(text):
        path.write_bytes(text)
        kind = 'random lists'
        attempts.attempt(kind, repr(text), lambda: FileList(str(path), str(home)).manifest())
        attempts.attempt(kind, repr(text), lambda: read_list(path, source))

    attempts.run(random_lists)


def try_labels(attempts: Attempts, home: Path) -> None:
    """Try random values of --labels."""
    source = ImageFolder(f'{home}/images/train')
    amount = st.builds('{}{}'.format, st.integers(), st.sampled_from(LABEL_UNITS))
    percentage = st.from_regex(r'[\d.]{1,400}%', fullmatch=True)

    @given(st.one_of(st.text(max_size=12), amount, percentage))
    def random_labels(text):
        attempts.attempt('random labels', repr(text), lambda: draw_labels(source, text, 0))

    attempts.run(random_labels)


def try_shard_patterns(attempts: Attempts, home: Path) -> None:
    """Try random patterns of shards' paths, and values that are not text."""
    part = st.one_of(st.sampled_from(PATTERN_PARTS), st.text(max_size=4))
    pattern = st.lists(part, max_size=8).map(''.join)
    other = st.one_of(st.none(), st.integers(), st.lists(st.text(max_size=3), max_size=2))

    @given(st.one_of(pattern, other))
    def random_patterns(value):
        shards = f'{home}/shards/{value}' if isinstance(value, str) else value
        attempts.attempt('random shard patterns', repr(shards), lambda: find_shards(shards))

    attempts.run(random_patterns)


def try_spliced_shards(attempts: Attempts, shard: Path, folder: Path) -> None:
    """Try a shard with some bytes replaced."""
    data = shard.read_bytes()
    folder.mkdir(exist_ok=True)
    starts = st.one_of(st.integers(0, len(data)), st.integers(0, 1600))

    @given(starts, st.integers(0, 20), st.binary(max_size=20))
    def spliced_shards(start, cut, new):
        for file in folder.iterdir():  # the shard and its index
            file.unlink()
        (folder / 'a.tar').write_bytes(data[:start] + new + data[start + cut :])
        text = f'{start}, {cut}, {new!r}'
        attempts.attempt('spliced shards', text, lambda: TarShards(str(folder)).manifest())

    attempts.run(spliced_shards)
