"""Make the command lines of a tool from the tables of inputs.py."""

import re
import shlex

import inputs

TABLES = dict(
    train_all=inputs.TRAIN_ALL,
    compare=inputs.COMPARE,
    new_method=inputs.NEW_METHOD,
    make_shards=inputs.MAKE_SHARDS,
    replay=inputs.REPLAY,
    study=inputs.STUDY,
    leaderboard=inputs.LEADERBOARD,
    plot=inputs.PLOT,
    report=inputs.REPORT,
    show_views=inputs.SHOW_VIEWS,
    export=inputs.EXPORT,
)
TABLES['import'] = inputs.IMPORT
# Tools that read any checkpoint, and their other arguments.
CHECKPOINT_READERS = {
    'export': ' --format timm --out out.pth',
    'import': ' --out work',
    'replay': '',
}
# Groups of an input: mark and environment variables, the first word, the other words.
LINE = re.compile(r'((?:\+ |\? )?(?:[A-Z_]+=\S* )*)(\S+)(.*)')
TRAIN = '{good} --work-dir work --cfg-options'
DRY_RUN = '{good} --dry-run --cfg-options'


def tools() -> list[str]:
    """Return the names of the tools that have inputs."""
    return [*inputs.WORKING, *(tool for tool in TABLES if tool not in inputs.WORKING)]


def commands(tool: str) -> list[str]:
    """Return the command lines of a tool, with the marks that inputs.py explains."""
    if tool == 'train':
        return train_commands()
    if tool in inputs.TOOL_ARGUMENTS:
        return evaluation_commands(tool)
    lines = table_lines(TABLES[tool])
    if tool in CHECKPOINT_READERS:
        arguments = CHECKPOINT_READERS[tool]
        mark = '? ' if tool == 'import' else ''  # the import reads foreign checkpoints
        lines += [f'{mark}{{home}}/{name}{arguments}' for name in inputs.CHECKPOINTS]
    return lines


def table_lines(table: str) -> list[str]:
    """Return the lines of a table, without the empty lines beside the quotes."""
    return table.split('\n')[1:-1]


def train_commands() -> list[str]:
    """Return train's command lines: configs, bad and legal options, other arguments, dry runs."""
    options = table_lines(inputs.OPTIONS)
    return [
        *(f'{line} --work-dir work' for line in table_lines(inputs.CONFIGS)),
        *(f'{TRAIN} {without_quotes(line)}' for line in options),
        *(f'+ {TRAIN} {quoted(line)}' for line in table_lines(inputs.LEGAL_OPTIONS)),
        *table_lines(inputs.TRAIN),
        *(f'{dry_mark(line)}{DRY_RUN} {line}' for line in options[::5]),
        *(f'? {DRY_RUN} {line}' for line in table_lines(inputs.DRY_OPTIONS)),
    ]


def dry_mark(line: str) -> str:
    """Return the mark of a dry run: it decodes no image, so images may be bad."""
    return '? ' if 'images/bombs' in line or 'images/postscript' in line else ''


def without_quotes(line: str) -> str:
    """Remove the quotes around several options, so that the options become several arguments."""
    is_several = line.startswith('"') and ' ' in line and "'" not in line
    return line[1:-1] if is_several else line


def quoted(line: str) -> str:
    """Return the options of a line, each quoted as a shell argument."""
    options = [line]
    if line.startswith('"'):
        options = re.split(r' (?=\w+[.\w]*=)', shlex.split(line)[0])
    return ' '.join(shlex.quote(option) for option in options)


def evaluation_commands(tool: str) -> list[str]:
    """Return the command lines of an evaluation tool.

    They are bad checkpoints, the arguments of all evaluation tools, and the tool's own arguments.
    """
    lines = [f'{{home}}/{name}' for name in inputs.CHECKPOINTS]
    lines += table_lines(inputs.EVALUATION)
    lines += table_lines(inputs.TOOL_ARGUMENTS[tool])
    if tool == 'transfer':  # transfer takes images from its own arguments, not from data.train
        lines = [line for line in lines if not changes_training_images(line)]
        lines = [f'? {line}' if 'planted_download' in line else line for line in lines]
    arguments = inputs.WORKING[tool].removeprefix('{ckpt} ')
    return [with_arguments(line, arguments) for line in lines]


def changes_training_images(line: str) -> bool:
    """Return whether a line names other training images that exist and can be read."""
    is_missing = '/none' in line or 'torn' in line
    return '--cfg-options data.train.root=' in line and not is_missing


def with_arguments(line: str, arguments: str) -> str:
    """Return the line with the working command's arguments inserted after the checkpoint.

    Options that the line has itself are not inserted.
    """
    start, checkpoint, rest = LINE.match(line).groups()
    options = [option for option in re.split(r' (?=--)', arguments) if option]
    arguments = ' '.join(option for option in options if option.split()[0] not in rest.split())
    if checkpoint == '{bare}':
        checkpoint = '{ckpt}'
        arguments = '--work-dir work'
    elif checkpoint == '{nolabels}':
        checkpoint = '{ckpt}'
        arguments = arguments.replace('--labels 2-per-class', '')
    return f'{start}{checkpoint} {arguments}{rest}'
