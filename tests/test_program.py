"""A program ends without a traceback after Ctrl-C, and with its parent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ssl_zoo.program import PARENT, TORCHRUN

pytestmark = [
    pytest.mark.quick,
    pytest.mark.skipif(sys.platform != 'linux', reason='only Linux ends a process with its parent'),
]
ROOT = Path(__file__).parents[1]
INTERRUPT = 'import os, signal, sys, time\ndef interrupt(): os.kill(os.getpid(), signal.SIGINT)\n'


def start(folder, module_text, **environment):
    """Start a module of this text as a program."""
    (folder / 'module.py').write_text(module_text)
    code = f'import sys; sys.path.insert(0, {str(folder)!r})\n'
    code += 'from ssl_zoo.program import run_program\nrun_program("module", [])'
    return subprocess.Popen(
        [sys.executable, '-c', code],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize(
    ('text', 'printed'),
    [
        ('interrupt()', 'stopped\n'),
        ('try: interrupt()\nexcept BaseException: raise ImportError("broken")', 'stopped\n'),
        ('def main(arguments): interrupt(); time.sleep(9)', 'stopped\n'),
        ('def main(arguments):\n exec("import other")', 'stopped\n'),
        ('import atexit\natexit.register(interrupt)\ndef main(arguments): return 0', ''),
    ],
    ids=['import', 'hidden', 'work', 'late import', 'shutdown'],
)
def test_ctrl_c_at_any_moment_prints_no_traceback(tmp_path, text, printed):
    (tmp_path / 'other.py').write_text(
        INTERRUPT + 'try: interrupt()\nexcept BaseException: raise ImportError("broken")'
    )
    process = start(tmp_path, INTERRUPT + text)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == (130 if printed else -signal.SIGINT)
    assert (output, errors) == ('', printed)


def test_a_command_may_handle_ctrl_c(tmp_path):
    text = 'def main(arguments):\n try: interrupt(); time.sleep(9)\n'
    process = start(tmp_path, INTERRUPT + text + ' except KeyboardInterrupt: return 7\n')
    assert process.communicate(timeout=60) == ('', '')
    assert process.returncode == 7


def test_a_program_whose_parent_has_ended_does_nothing(tmp_path):
    process = start(tmp_path, 'print("imported")', **{PARENT: '1'})
    assert process.communicate(timeout=60) == ('', '')
    assert process.returncode == -signal.SIGTERM


@pytest.mark.parametrize('variable', [PARENT, TORCHRUN, None])
def test_a_program_ends_with_its_parent_if_the_parent_asks_for_it(tmp_path, variable):
    """The parent is killed while the program imports its libraries."""
    (tmp_path / 'module.py').write_text(
        'import os, sys, time\n'
        f'assert {PARENT!r} not in os.environ\n'
        'print(os.getpid(), flush=True)\n'
        'time.sleep(60)'
    )
    child = f'import sys; sys.path.insert(0, {str(tmp_path)!r})\n'
    child += 'from ssl_zoo.program import run_program\nrun_program("module", [])'
    parent = (
        f'import os, subprocess, sys\n'
        f'if {variable!r}: os.environ[{variable!r}] = str(os.getpid())\n'
        f'subprocess.run([sys.executable, "-c", {child!r}])'
    )
    with subprocess.Popen(
        [sys.executable, '-c', parent], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        pid = int(process.stdout.readline())
        process.kill()
        process.wait()
        try:
            if variable:
                deadline = time.monotonic() + 30
                while is_alive(pid):
                    assert time.monotonic() < deadline
                    time.sleep(0.01)
            else:
                time.sleep(0.3)
                assert is_alive(pid)
        finally:
            if is_alive(pid):
                os.kill(pid, signal.SIGKILL)


def is_alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f'/proc/{pid}/stat').read_text().rsplit(')', 1)[1].split()[0] != 'Z'
    except (FileNotFoundError, ProcessLookupError):
        return False
