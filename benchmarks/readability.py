"""Measure the readability of the code: packed lines, long functions, and calls up to BYOL's loss.

    python benchmarks/readability.py
    python benchmarks/readability.py --tree OTHER_CLONE --functions --json FILE

The counts need no package. The call path needs the packages of training: the script runs
tools/train.py in a new process until BYOL calls its loss, and prints the calls on the stack. Only
files and calls of the project are counted, not those of PyTorch and mmengine.
"""

import argparse
import ast
import io
import json
import os
import runpy
import subprocess
import sys
import tempfile
import tokenize
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ('ssl_zoo/**/*.py', 'methods/*.py')
LINKED = 'ssl_zoo/methods'  # in a clone a symbolic link to methods/
MAX_COLUMNS = 100
MAX_TOKENS = 25  # per line
MAX_FUNCTION_LINES = 45  # without the docstring
CODE_TOKENS = (tokenize.NAME, tokenize.OP, tokenize.NUMBER, tokenize.STRING)

COMMAND = 'tools/train.py'
CONFIG = 'configs/byol/digits.py'
LOSS = 'regression_loss'


@dataclass
class Counts:
    """Counts over the Python files of a tree.

    Attributes:
        files: number of Python files of the package and of the methods.
        lines: number of lines in these files.
        long_lines: lines of more than MAX_COLUMNS columns.
        code_lines: lines with a token of code.
        dense_lines: lines with more than MAX_TOKENS tokens of code.
        ternaries: conditional expressions.
        packed_assignments: assignments of a tuple of values to a tuple of targets.
        functions: functions and methods, nested ones included.
        long_functions: functions of more than MAX_FUNCTION_LINES lines, as (lines, 'FILE:LINE
            NAME').
    """

    files: int = 0
    lines: int = 0
    long_lines: int = 0
    code_lines: int = 0
    dense_lines: int = 0
    ternaries: int = 0
    packed_assignments: int = 0
    functions: int = 0
    long_functions: list[tuple[int, str]] = field(default_factory=list)


@dataclass
class Call:
    """A call on the stack: ``file`` below the tree, and the ``function`` in it."""

    file: str
    function: str


def count(tree: Path) -> Counts:
    """Count over the package and the methods of a tree."""
    counts = Counts()
    for pattern in SOURCES:
        for file in sorted(tree.glob(pattern)):
            name = file.relative_to(tree).as_posix()
            if not name.startswith(LINKED):
                add_file(counts, file.read_text(), name)
    counts.long_functions.sort(reverse=True)
    return counts


def add_file(counts: Counts, text: str, name: str) -> None:
    """Add the counts of one file's text."""
    lines = text.splitlines()
    counts.files += 1
    counts.lines += len(lines)
    counts.long_lines += sum(len(line) > MAX_COLUMNS for line in lines)
    tokens = tokens_per_line(text)
    counts.code_lines += len(tokens)
    counts.dense_lines += sum(n > MAX_TOKENS for n in tokens.values())
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.IfExp):
            counts.ternaries += 1
        elif isinstance(node, ast.Assign):
            counts.packed_assignments += is_packed(node)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            counts.functions += 1
            length = function_lines(node)
            if length > MAX_FUNCTION_LINES:
                counts.long_functions.append((length, f'{name}:{node.lineno} {node.name}'))


def tokens_per_line(text: str) -> Counter[int]:
    """Return the number of code tokens that begin in each line.

    Comments, line ends and indentation are not code tokens.
    """
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return Counter(token.start[0] for token in tokens if token.type in CODE_TOKENS)


def is_packed(node: ast.Assign) -> bool:
    """Return whether an assignment is like ``a, b = x, y``; unpacking a call's result is not."""
    has_tuple_target = any(isinstance(target, ast.Tuple) for target in node.targets)
    return has_tuple_target and isinstance(node.value, ast.Tuple)


def function_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the number of lines of a function from ``def`` on, without its docstring."""
    lines = node.end_lineno - node.lineno + 1
    if ast.get_docstring(node) is not None:
        docstring = node.body[0]
        lines -= docstring.end_lineno - docstring.lineno + 1
    return lines


def readme_words(tree: Path) -> int:
    """Return the number of words in README.md, including code and tables."""
    return len((tree / 'README.md').read_text().split())


def path_to_loss(tree: Path) -> list[Call]:
    """Return the project's calls from the training command to BYOL's loss, outermost first.

    Raises:
        RuntimeError: the training of this tree does not reach the loss.
    """
    with tempfile.TemporaryDirectory() as folder:
        work_dir = str(Path(folder, 'run'))
        done = subprocess.run(
            [sys.executable, __file__, '--tree', str(tree), '--trace', work_dir],
            cwd=tree,
            env={**os.environ, 'PYTHONPATH': str(tree)},
            capture_output=True,
            text=True,
        )
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ['no message'])[-1])
    return [Call(**call) for call in json.loads(done.stdout.splitlines()[-1])]


def trace(tree: Path, work_dir: str) -> None:
    """Train in this process; at BYOL's first call of its loss, print the stack as JSON and exit."""
    sys.argv = [COMMAND, CONFIG, '--work-dir', work_dir, '--cfg-options', 'workers=0']
    sys.path.insert(0, str(tree))

    def profile(frame: FrameType, event: str, argument: object) -> None:
        if event == 'call' and frame.f_code.co_name == LOSS:
            calls = [asdict(call) for call in project_calls(frame, tree)]
            print(f'\n{json.dumps(calls)}', flush=True)
            os._exit(0)  # without an exception that a handler of the training could report

    sys.setprofile(profile)
    runpy.run_path(str(tree / COMMAND), run_name='__main__')
    raise SystemExit(f'the training ended without a call of {LOSS}')


def project_calls(frame: FrameType | None, tree: Path) -> list[Call]:
    """Return the calls on a stack from the command on, outermost first, with files in the tree."""
    calls = []
    while frame is not None:
        file = Path(frame.f_code.co_filename).resolve()
        if file.is_relative_to(tree):
            calls.append(Call(file.relative_to(tree).as_posix(), frame.f_code.co_name))
        frame = frame.f_back
    calls.reverse()
    while calls and calls[0].file != COMMAND:  # calls of this script, before the command
        calls.pop(0)
    return calls


def print_counts(counts: Counts) -> None:
    long_lines = 100 * counts.long_lines / counts.lines
    dense_lines = 100 * counts.dense_lines / counts.code_lines
    ternaries = 1000 * counts.ternaries / counts.lines
    print(f'{counts.files} files, {counts.lines:,} lines in ssl_zoo/ and methods/')
    print(f'  lines over {MAX_COLUMNS} columns             {long_lines:8.1f} %')
    print(f'  code lines of over {MAX_TOKENS} tokens        {dense_lines:8.1f} %')
    print(f'  ternaries per 1,000 lines          {ternaries:8.1f}')
    print(f'  packed assignments                 {counts.packed_assignments:8d}')
    print(f'  functions                          {counts.functions:8d}')
    print(f'  functions over {MAX_FUNCTION_LINES} lines            {len(counts.long_functions):8d}')


def print_path(calls: list[Call]) -> None:
    files = list(dict.fromkeys(call.file for call in calls))
    print(f'  files from the command to the loss {len(files):8d}')
    print(f'  calls from the command to the loss {len(calls) - 1:8d}')
    for call in calls:
        print(f'    {call.file} {call.function}')


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--tree', type=Path, default=ROOT, help='clone to measure; default: this')
    parser.add_argument('--functions', action='store_true', help='list the long functions')
    parser.add_argument('--json', type=Path, help='write the figures there')
    parser.add_argument('--trace', metavar='WORK_DIR', help=argparse.SUPPRESS)
    args = parser.parse_args()
    tree = args.tree.resolve()
    if args.trace:
        trace(tree, args.trace)
    counts = count(tree)
    print_counts(counts)
    if args.functions:
        for length, name in counts.long_functions:
            print(f'    {length:4d} lines  {name}')
    words = readme_words(tree)
    print(f'  words in README.md                 {words:8,}')
    try:
        calls = path_to_loss(tree)
    except RuntimeError as error:
        calls = []
        print(f'  the path to the loss was not measured: {error}')
    else:
        print_path(calls)
    if args.json:
        figures = dict(asdict(counts), readme_words=words, path=[asdict(call) for call in calls])
        args.json.write_text(json.dumps(figures, indent=2) + '\n')


if __name__ == '__main__':
    main()
