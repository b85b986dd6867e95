"""What all commands share: options of lists add up."""

from importlib import import_module

import pytest

from ssl_zoo.cli.command_parser import CommandParser, command_parser
from ssl_zoo.cli.main import COMMANDS

pytestmark = pytest.mark.quick


@pytest.fixture
def parser():
    parser = command_parser('train', 'Text.')
    group = parser.add_argument_group('evaluation')
    group.add_argument('--cfg-options', nargs='+', default=[])
    group.add_argument('--k', nargs='+', type=int, default=[1, 5])
    parser.add_argument('--strengths', nargs='*', type=float)
    parser.add_argument('--crop', nargs=2, type=float)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('runs', nargs='*', default=['run'])
    return parser


def test_a_list_that_is_given_again_adds_up(parser):
    words = '--cfg-options a=1 b=2 --k 3 --cfg-options c=3 --seed 1 --k 7 9 --seed 2'
    args = parser.parse_args([*words.split(), '--crop', '0', '1', '--crop', '0.5', '1'])
    assert args.cfg_options == ['a=1', 'b=2', 'c=3']
    assert args.k == [3, 7, 9]  # without the default
    assert (args.seed, args.crop, args.runs) == (2, [0.5, 1], ['run'])
    assert parser.parse_args(['--strengths', '--strengths', '2']).strengths == [2]
    again = parser.parse_args(['x'])
    assert (again.cfg_options, again.k, again.strengths, again.runs) == ([], [1, 5], None, ['x'])


@pytest.mark.parametrize('name', COMMANDS)
def test_every_command_has_this_parser(name, monkeypatch):
    used = []
    monkeypatch.setattr(
        CommandParser, 'parse_args', lambda self, argv: used.append(self) or self.exit()
    )
    with pytest.raises(SystemExit, match='0'):
        import_module(f'ssl_zoo.cli.{COMMANDS[name].module}').main([])
    assert len(used) == 1
