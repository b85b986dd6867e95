"""The campaign: try an input on a tool, and judge the tool's output and its effect on files."""

import contextlib
import hashlib
import io
import os
import re
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from commands import commands
from files import make_files
from hostile_files import make_odd_folder
from inputs import WORKING

from ssl_zoo.cli import main as program
from ssl_zoo.printable import printable

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 180  # limit for a tool and an input: none needs 60 on a machine that does nothing else
USER_MODULES = 'ssl_zoo_user.'  # prefix of the modules that a tool imports from a user's files
LARGE = 1 << 30  # bytes; a larger file is sparse, and its length and time stand for its content
# What a terminal would act on, in the output of a tool: see ssl_zoo.printable.
CONTROL = re.compile('[\x00-\x08\x0b-\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]')
# The kinds of faults, for the summary.
FAULT_KINDS = dict(
    tracebacks=re.compile('exception|traceback'),
    hangs=re.compile('not done after'),
    files=re.compile('has changed|is left|was written'),
    code=re.compile('was executed'),
)
SENTENCE = re.compile(r'(error: |stopped|\d+ of \d+ runs failed)\s*\S+')  # in stderr


class OutOfTime(BaseException):
    """A tool took too long. No tool catches a BaseException."""


@contextlib.contextmanager
def time_limit(seconds: float):
    """Raise OutOfTime in the block after ``seconds``."""

    def stop(*_):
        raise OutOfTime(f'not done after {seconds} s')

    handler = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)


@dataclass(frozen=True)
class Outcome:
    """The outcome of a tool for an input.

    Attributes:
        code: exit code; None if the tool raised an exception.
        out: stdout.
        err: stderr.
        exception: traceback of the exception.
    """

    code: int | None
    out: str
    err: str
    exception: str | None = None


@dataclass(frozen=True)
class Failure:
    """An input that was not handled.

    Attributes:
        tool: the tool, or the kind of random input.
        text: the input.
        fault: description of the fault.
        output: last lines of the tool's output.
    """

    tool: str
    text: str
    fault: str
    output: str


@dataclass
class Result:
    """The count of a campaign.

    Attributes:
        tried: number of inputs tried, for each tool or kind.
        handled: number of inputs handled, for each tool or kind.
        failures: the inputs that were not handled.
    """

    tried: Counter[str] = field(default_factory=Counter)
    handled: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)

    def add(self, tool: str, text: str, fault: str | None, output: str = '') -> None:
        """Count an input. If ``fault`` is None, the input was handled."""
        self.tried[tool] += 1
        if fault is None:
            self.handled[tool] += 1
            return
        last_lines = '\n'.join(output.strip().splitlines()[-4:])
        self.failures.append(Failure(tool, text, fault, last_lines))
        print(f'not handled: {tool}  {shortened(text)}'[:200], file=sys.stderr)
        print(f'    {shortened(fault)}\n    {shortened(last_lines)}', file=sys.stderr, flush=True)

    def summary(self) -> str:
        """Return the failures, and a table of the inputs tried and handled."""
        lines = []
        for failure in self.failures:
            lines.append(f'NOT HANDLED  {failure.tool}  {shortened(failure.text)}')
            lines.append(f'    {failure.fault}')
            lines += [f'    | {shortened(line)}' for line in failure.output.splitlines()]
            lines.append('')
        lines.append(f'{"inputs":<28}  tried / handled')
        for tool, tried in self.tried.items():
            lines.append(f'{tool:<28} {tried:>6} / {self.handled[tool]}')
        lines.append(f'{"all":<28} {self.tried.total():>6} / {self.handled.total()}')
        lines.append(', '.join(f'{n} {kind}' for kind, n in self.kinds().items()))
        return '\n'.join(lines)

    def kinds(self) -> dict[str, int]:
        """Return the number of faults of each of FAULT_KINDS, and of others."""
        faults = [failure.fault for failure in self.failures]
        counts = {
            kind: sum(bool(pattern.search(fault)) for fault in faults)
            for kind, pattern in FAULT_KINDS.items()
        }
        return dict(counts, others=len(faults) - sum(counts.values()))


def shortened(text: str) -> str:
    """Return the text without the folder's path and without long repetitions of one character."""
    text = re.sub(r'/\S*?/home\b', 'HOME', text)
    return re.sub(r'(.)\1{49,}', r'\1...\1', printable(text))[:400]


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file below a folder, by path; the kind of devices and links.

    Indexes of shards are left out: an index is a cache that is made anew if damaged. So is the
    bytecode of imported files.
    """
    return {
        str(path): digest(path)
        for path in sorted(folder.rglob('*'))
        if (path.is_symlink() or not path.is_dir())
        and not re.fullmatch(r'index-\w+\.npz|.*\.pyc', path.name)
    }


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, or what the path is if it is not a file to read."""
    if path.is_symlink():
        return f'link to {os.readlink(path)}'
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        return f'no file, mode {status.st_mode:o}, device {status.st_rdev}'
    if status.st_size > LARGE:
        return f'{status.st_size} bytes of {status.st_mtime_ns}'
    return hashlib.sha256(path.read_bytes()).hexdigest()


Call = Callable[[str, list[str], dict[str, str], Path], Outcome]


class Campaign:
    """Tools, and a folder of good and bad files to try on them.

    Args:
        home: an empty folder for the files.

    Attributes:
        names: values for the names in braces in inputs.py.
        marker: a file that exists only if a tool has executed code of a bad file.
        result: the count so far.
    """

    def __init__(self, home: Path):
        self.home = home
        self.result = Result()
        self.marker = home.parent / 'executed'
        self.names = dict(
            home=str(home),
            good=f'{home}/good.py',
            one=f'{home}/images/one',
            hostile_index=f'{home}/shards_hostile_index',
            marker=str(self.marker),
            long='n' * 300,
            n245='n' * 245,
            deep='(' * 500 + '1' + ',)' * 500,
            zeros='0' * 400,
            source=f"{{'type': 'ImageFolder', 'root': '{home}/images/train'}}",
            bytes='b\udcff\x1b[2J',
            braces='{a,' * 300 + 'b' + '}' * 300,
            product='{0..999}' * 300,
        )
        make_files(home, self.marker, self.names, self.make_with)
        self.before = digests(home)
        self.outside: set[str] = set()  # names beside the campaign's folder before an attempt

    def main(self, tool: str) -> Callable[[list[str]], int]:
        """Return the main function of a tool."""
        return lambda words: program.main([tool.replace('_', '-'), *words])

    def make_with(self, tool: str, *words: object) -> None:
        """Make files of the campaign with a tool, which must succeed."""
        arguments = [str(word) for word in words]
        outcome = self.call(tool, arguments, {}, self.home)
        if outcome.code != 0:
            raise SystemExit(
                f'the files of the campaign cannot be made: {tool} {shlex.join(arguments)}\n'
                f'{outcome.exception or outcome.err}'
            )

    def call(self, tool: str, words: list[str], env: dict[str, str], cwd: Path) -> Outcome:
        """Call a tool in this process."""
        out = io.StringIO()
        err = io.StringIO()
        code = None
        exception = None
        with self._process_state(), time_limit(SECONDS):
            os.chdir(cwd)
            os.environ.update(env)
            sys.argv = [f'tools/{tool}.py', *words]
            try:
                with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                    code = self.main(tool)(words)
            except SystemExit as stop:
                code = exit_code(stop)
                if isinstance(stop.code, str):
                    err.write(stop.code)
            except OutOfTime as late:
                exception = str(late)
            except BaseException:  # the campaign looks for exceptions of every type
                exception = traceback.format_exc()
        return Outcome(code, out.getvalue(), err.getvalue(), exception)

    @staticmethod
    @contextlib.contextmanager
    def _process_state():
        """Restore the state of this process after the block.

        The state is the current folder, environment, arguments, modules and process group.
        """
        environment = dict(os.environ)
        argv = sys.argv
        folder = os.getcwd()
        modules = {name for name in sys.modules if name.startswith(USER_MODULES)}
        try:
            yield
        finally:
            os.chdir(folder)
            os.environ.clear()
            os.environ.update(environment)
            sys.argv = argv
            for name in list(sys.modules):
                if name.startswith(USER_MODULES) and name not in modules:
                    del sys.modules[name]
            if torch.distributed.is_initialized():
                torch.distributed.destroy_process_group()

    def start(self, tool: str, words: list[str], env: dict[str, str], cwd: Path) -> Outcome:
        """Run a tool in a new process."""
        try:
            done = subprocess.run(
                [sys.executable, str(ROOT / 'tools' / f'{tool}.py'), *words],
                cwd=cwd,
                env={**os.environ, **env},
                text=True,
                capture_output=True,
                timeout=SECONDS,
                errors='surrogateescape',
            )
        except subprocess.TimeoutExpired:
            return Outcome(None, '', '', f'not done after {SECONDS} s')
        return Outcome(done.returncode, done.stdout, done.stderr)

    def split(self, line: str, cwd: Path) -> tuple[list[str], dict[str, str]]:
        """Return the arguments and the environment of a command line.

        Folders that the line names with @ are copied to ``cwd``.
        """
        words = shlex.split(line.format(**self.names))
        env = {}
        while words and (match := re.fullmatch(r'([A-Z_]+)=(.*)', words[0])):
            env[match[1]] = match[2]
            words.pop(0)
        for i, word in enumerate(words):
            if word.startswith('@'):
                words[i] = word[1:]
                if word.startswith('@odd'):
                    make_odd_folder(cwd / 'odd')
                    continue
                shutil.copytree(self.home / word[1:], cwd / word[1:])
        return words, env

    def attempt(self, tool: str, line: str, call: Call | None = None) -> None:
        """Try an input and count it.

        Args:
            tool: the tool.
            line: a line of inputs.py.
            call: function that runs the tool; by default in this process.
        """
        mark = ''
        if line[:2] in ('+ ', '? '):
            mark = line[0]
            line = line[2:]
        with tempfile.TemporaryDirectory(dir=self.home.parent) as folder:
            cwd = Path(folder)
            words, env = self.split(line, cwd)
            before = digests(cwd)
            self.outside = set(os.listdir(self.home.parent))
            outcome = (call or self.call)(tool, words, env, cwd)
            fault = self.judge(mark, outcome) or self.damage(cwd, before, outcome.code)
            left_files = bool(digests(cwd).keys() - before.keys())
            if fault is None and outcome.code and left_files:
                fault = self.fault_of_working_command(tool, words, cwd)
        name = tool if call is None else f'{tool}, a process'
        variables = [f'{key}={value}' for key, value in env.items()]
        output = outcome.exception or outcome.err or outcome.out
        self.result.add(name, shlex.join([*variables, *words]), fault, output)

    def fault_of_working_command(self, tool: str, words: list[str], cwd: Path) -> str | None:
        """Run the working command in a folder where a bad input has left files.

        Return the fault; None if the command works.
        """
        if tool not in WORKING:
            return None
        work_dir = 'work'
        if '--work-dir' in words:
            work_dir = words[words.index('--work-dir') + 1]
        # Other folders hold the bad files of the campaign itself; train_all has no working command.
        if work_dir != 'work' or tool == 'train_all':
            return None
        outcome = self.call(tool, shlex.split(WORKING[tool].format(**self.names)), {}, cwd)
        if outcome.code == 0:
            return None
        return f'then the working command gives {outcome.code} in the same folder'

    def judge(self, mark: str, outcome: Outcome) -> str | None:
        """Return the fault in a tool's output and exit code; None if there is no fault."""
        code = outcome.code
        if outcome.exception:
            late = outcome.exception.startswith('not done')
            return outcome.exception if late else 'an exception reaches the user'
        output = outcome.out + outcome.err
        if 'Traceback (most recent call last)' in output or 'Logging error' in output:
            return 'a traceback reaches the user'
        control = CONTROL.search(output)
        if control:
            return f'the control character {control[0]!r} reaches the terminal'
        if mark == '+' or (mark == '?' and code == 0):
            return None if code == 0 else f'legal, but exit code {code}'
        if not code:
            return f'exit code {code}'
        if not SENTENCE.search(outcome.err):
            return f'exit code {code}, but stderr has no sentence'
        return None

    def damage(self, cwd: Path, before: dict[str, str], code: int | None) -> str | None:
        """Return the damage that a tool has done to files; None if there is no damage.

        New files in the campaign's folder are removed.

        Args:
            cwd: folder that the tool ran in.
            before: digests of the files in ``cwd`` before the tool ran.
            code: the tool's exit code.
        """
        if self.marker.exists():
            self.marker.unlink()
            return 'code in a file was executed'
        new = set(os.listdir(self.home.parent)) - self.outside
        for name in new:
            remove(self.home.parent / name)
            return f'{name} was written outside the output folder'
        after = digests(self.home)
        written = sorted(after.keys() - self.before.keys())
        for path in written:
            os.unlink(path)
        for path, content in self.before.items():
            if after.get(path) != content:
                return f'{path} has changed'
        if written:
            return f'{written[0]} was written outside the output folder'
        after = digests(cwd)
        for path, content in before.items():
            if '/odd/' in path and after.get(path) != content:
                return f'{path} has changed'
        for path in after:
            if '.tmp.' in path:
                return f'{path} is left'
        for path, content in before.items():
            # A file that is proven damaged may be set aside under another name.
            is_kept = content in (after.get(path), after.get(f'{path}.unreadable'))
            if code and not is_kept:
                return f'{path} has changed'
        return None

    def run(self, tools: list[str], part: slice = slice(None)) -> None:
        """Try the inputs of some tools, or a part of each tool's."""
        for tool in tools:
            for line in commands(tool)[part]:
                self.attempt(tool, line)


def remove(path: Path) -> None:
    """Remove a file or a folder."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def exit_code(stop: SystemExit) -> int:
    """Return the exit code of a process that ends with this exception."""
    if stop.code is None:
        return 0
    return stop.code if isinstance(stop.code, int) else 1
