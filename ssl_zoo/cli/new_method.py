"""Start a method of your own: write a method file with a working toy loss, a config and a test.

ssl-zoo new-method my_method --out my_methods    # in a folder of your own
ssl-zoo new-method my_method                     # inside a clone of the repository

Inside a clone the files go to methods/, configs/my_method/ and tests/methods/. No file is
overwritten.
"""

import keyword
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from ssl_zoo.cli.command_parser import command_parser
from ssl_zoo.cli.new_method_templates import BASE_INSIDE, BASE_OUTSIDE, CONFIG, METHOD, TEST
from ssl_zoo.terminal import print_error

CLONE = Path(__file__).resolve().parents[2]


def files(name: str, out: Path | None) -> dict[Path, str]:
    """Return the texts of the method, the config and the test.

    Args:
        name: name of the method's file without .py, such as 'my_method'.
        out: folder of the files; None for the usual folders in the clone.

    Returns:
        Path -> text, in the order method, config, test.
    """
    title = ' '.join(name.split('_')).capitalize()
    if out is None:
        method = CLONE / f'methods/{name}.py'
        config = CLONE / f'configs/{name}/digits.py'
        test = CLONE / f'tests/methods/test_{name}.py'
        base = BASE_INSIDE
        config_argument = f'configs/{name}/digits.py'
        config_from_test = f"parents[2] / 'configs/{name}/digits.py'"
    else:
        method = out / f'{name}.py'
        config = out / f'{name}_digits.py'
        test = out / f'test_{name}.py'
        base = BASE_OUTSIDE.format(name=name)
        config_argument = config.as_posix()
        config_from_test = f"with_name('{name}_digits.py')"
    cls = _class_name(name)
    return {
        method: METHOD.format(title=title, cls=cls),
        config: CONFIG.format(title=title, cls=cls, config=config_argument, base=base),
        test: TEST.format(title=title, config_from_test=config_from_test),
    }


def _class_name(name: str) -> str:
    return ''.join(part.capitalize() for part in name.split('_'))


def mistake(name: str, out: Path | None, paths: Sequence[Path]) -> str | None:
    """Return an error message if the name or the folder cannot be used, else None.

    Args:
        name: name of the method's file without .py.
        out: folder that was asked for; None for the clone.
        paths: the files to write.
    """
    if not _is_file_name(name):
        return (
            f"{name!r} cannot be a method's file: use small letters, digits and single _, such as "
            f'my_method'
        )
    if out is None and not (CLONE / 'methods').is_dir():
        return 'ssl_zoo is installed, not cloned; name a folder of your own with --out'
    from ssl_zoo.registry import METHODS  # late: it imports torch

    class_name = _class_name(name).lower()
    for registered in METHODS.names():
        if registered.lower() == class_name:
            return f'the zoo already has a method {registered!r}; choose another name'
    for path in paths:
        if path.exists():
            return (
                f'{path} exists already, and nothing is overwritten; choose another name or folder'
            )
    return None


def _is_file_name(name: str) -> bool:
    letters = re.fullmatch(r'[a-z][a-z0-9_]*', name) is not None
    return letters and not keyword.iskeyword(name) and not name.endswith('_') and '__' not in name


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 0, or 2 after a mistake of the user."""
    parser = command_parser('new-method', __doc__)
    parser.add_argument('name', help='name of the method file, such as my_method')
    parser.add_argument(
        '--out', type=Path, help='a folder of your own; default: inside the clone of the repository'
    )
    args = parser.parse_args(argv)
    texts = files(args.name, args.out)
    try:
        error = mistake(args.name, args.out, list(texts))
    except OSError as os_error:  # such as a name or a path that is too long
        error = (
            f'cannot look for files of {args.name}: {os_error}; choose a shorter name, or another '
            f'folder'
        )
    if error:
        print_error(f'error: {error}')
        return 2
    for path, text in texts.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, 'x') as file:
                file.write(text)
        except OSError as os_error:
            print_error(f'error: cannot write {path}: {os_error}')
            return 2
    _print_next_steps(*texts)
    return 0


def _print_next_steps(method: Path, config: Path, test: Path) -> None:
    test_command = ['python', '-m', 'pytest', '-q', str(test)]
    train_command = ['ssl-zoo', 'train', str(config)]
    script = Path(sys.argv[0])
    if script.suffix == '.py':  # called as tools/new_method.py
        train_command = ['python', str(script.with_name('train.py')), str(config)]
    print(
        f'the method  {method}\n'
        f'its config  {config}\n'
        f'its test    {test}\n'
        f'\n'
        f'try them    {shlex.join(test_command)}\n'
        f'            {shlex.join(train_command)}'
    )


if __name__ == '__main__':
    sys.exit(main())
