"""The program ``ssl-zoo``: run the command that its first argument names."""

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple

from ssl_zoo import __version__
from ssl_zoo.errors import nearest
from ssl_zoo.terminal import print_error, printable_output


class Command(NamedTuple):
    """One command of ``ssl-zoo``.

    Attributes:
        module: the command's module in ssl_zoo.cli, imported only when the command is called.
        summary: one line for the list of commands.
    """

    module: str
    summary: str


COMMANDS = {
    'train': Command('train', 'Pretrain a method on images.'),
    'knn': Command('knn', 'Measure the k-NN accuracy of a checkpoint.'),
    'linear': Command('linear', 'Train linear classifiers on the frozen backbone.'),
    'semi-supervised': Command('semi_supervised', 'Fine-tune on a share of the labels.'),
    'transfer': Command('transfer', 'Measure accuracy on another classification data set.'),
    'label-free': Command('label_free', 'Measure a checkpoint without labels: RankMe, LiDAR ...'),
    'extract-features': Command('extract_features', 'Store the features of a data set in files.'),
    'compare': Command('compare', 'Test whether two networks differ on the same images.'),
    'study': Command('study', 'Compare methods on one recipe over several seeds.'),
    'train-all': Command('train_all', 'Train several configs and print a table of results.'),
    'leaderboard': Command('leaderboard', 'Gather the results of many runs into one table.'),
    'speedrun': Command('speedrun', 'Race to an accuracy in the least training time.'),
    'plot': Command('plot', 'Draw the training curves of runs side by side.'),
    'report': Command('report', 'Write a page about a run: facts, curves, images, cost.'),
    'show-views': Command('show_views', 'Draw training images beside their augmented views.'),
    'export': Command('export', 'Write the backbone of a checkpoint for another library.'),
    'import': Command('import_checkpoint', "Read another library's checkpoint."),
    'make-shards': Command('make_shards', 'Write a data set as tar archives.'),
    'new-method': Command('new_method', 'Write a method file, config and test to begin from.'),
    'replay': Command('replay', 'Repeat a training step that gave non-finite values.'),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: the name of the command and its arguments; default: the arguments of the process.

    Returns:
        The exit code: that of the command, 2 for an unknown command, 130 after Ctrl-C.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ('-h', '--help'):
        print(help_text())
        return 0
    if arguments[0] == '--version':
        print(f'ssl-zoo {__version__}')
        return 0
    name = arguments.pop(0)
    if name not in COMMANDS:
        print_error(f'error: {name!r} is not a command: {nearest(name, COMMANDS)}')
        return 2
    try:
        with printable_output():
            command = import_module(f'ssl_zoo.cli.{COMMANDS[name].module}')
            return command.main(arguments)
    except KeyboardInterrupt:  # a command handles Ctrl-C itself once its libraries are imported
        print('stopped', file=sys.stderr)
        return 130


def help_text() -> str:
    """Return the list of the commands with one line each."""
    width = max(map(len, COMMANDS))
    lines = [f'  {name:{width}}  {command.summary}' for name, command in COMMANDS.items()]
    return '\n'.join(
        [
            'usage: ssl-zoo COMMAND [ARGUMENTS]',
            '       ssl-zoo COMMAND --help',
            '       ssl-zoo --version',
            '',
            'Self-supervised learning on images.',
            '',
            'commands:',
            *lines,
        ]
    )


if __name__ == '__main__':
    sys.exit(main())
