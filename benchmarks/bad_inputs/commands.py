"""From the tables of inputs.py to the command lines of a tool."""

import re
import shlex

import inputs

TABLES = dict(
    train_all=inputs.TRAIN_ALL,
    compare=inputs.COMPARE,
    new_method=inputs.NEW_METHOD,
    make_shards=inputs.MAKE_SHARDS,
    replay=inputs.REPLAY,
)
# An input: its marks and variables of the environment, its first word, the other words.
LINE = re.compile(r'((?:\+ |\? )?(?:[A-Z_]+=\S* )*)(\S+)(.*)')
TRAIN = '{good} --work-dir work --cfg-options'
DRY_RUN = '{good} --dry-run --cfg-options'


def tools() -> list[str]:
    """The tools that have inputs."""
    return [*inputs.WORKING, 'replay']


def commands(tool: str) -> list[str]:
    """The command lines of a tool, with the marks that inputs.py explains."""
    if tool == 'train':
        return train_commands()
    if tool in inputs.TOOL_ARGUMENTS:
        return evaluation_commands(tool)
    return table_lines(TABLES[tool])


def table_lines(table: str) -> list[str]:
    """The lines of a table: its first and last line, those of the quotes, are empty."""
    return table.split('\n')[1:-1]


def train_commands() -> list[str]:
    """Command lines for bad configs, for bad and legal options, for other arguments, and for dry
    runs."""
    options = table_lines(inputs.OPTIONS)
    return [
        *(f'{line} --work-dir work' for line in table_lines(inputs.CONFIGS)),
        *(f'{TRAIN} {without_quotes(line)}' for line in options),
        *(f'+ {TRAIN} {quoted(line)}' for line in table_lines(inputs.LEGAL_OPTIONS)),
        *table_lines(inputs.TRAIN),
        *(f'{DRY_RUN} {line}' for line in options[::5]),
        *(f'? {DRY_RUN} {line}' for line in table_lines(inputs.DRY_OPTIONS)),
    ]


def without_quotes(line: str) -> str:
    """Several options in one pair of quotes without the quotes, so that they become several
    arguments."""
    is_several = line.startswith('"') and ' ' in line and "'" not in line
    return line[1:-1] if is_several else line


def quoted(line: str) -> str:
    """The options of a line, each as an argument of a shell."""
    options = [line]
    if line.startswith('"'):
        options = re.split(r' (?=\w+[.\w]*=)', shlex.split(line)[0])
    return ' '.join(shlex.quote(option) for option in options)


def evaluation_commands(tool: str) -> list[str]:
    """Command lines of a tool that evaluates: bad checkpoints, the arguments of all such tools, its
    own arguments."""
    lines = [f'{{home}}/{name}' for name in inputs.CHECKPOINTS]
    lines += table_lines(inputs.EVALUATION)
    lines += table_lines(inputs.TOOL_ARGUMENTS[tool])
    if tool == 'transfer':  # it takes its images from its own arguments, not from data.train
        lines = [line for line in lines if not changes_training_images(line)]
    arguments = inputs.WORKING[tool].removeprefix('{ckpt} ')
    return [with_arguments(line, arguments) for line in lines]


def changes_training_images(line: str) -> bool:
    """Whether a line names other training images that exist and can be read."""
    is_missing = '/none' in line or 'torn' in line
    return '--cfg-options data.train.root=' in line and not is_missing


def with_arguments(line: str, arguments: str) -> str:
    """A line with the working command's arguments after the checkpoint; those of the line follow
    and may overrule them."""
    start, checkpoint, rest = LINE.match(line).groups()
    if checkpoint == '{bare}':
        checkpoint = '{ckpt}'
        arguments = '--work-dir work'
    elif checkpoint == '{nolabels}':
        checkpoint = '{ckpt}'
        arguments = arguments.replace('--labels 2-per-class', '')
    return f'{start}{checkpoint} {arguments}{rest}'
