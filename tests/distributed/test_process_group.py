"""How processes find their places, agree while they run, and end when one is lost."""

import json
import os
import signal
import socket
import time
from threading import Thread, Timer

import pytest
import torch

from ssl_zoo.distributed.counter import AsyncCounter
from ssl_zoo.distributed.objects import (
    all_gather_object,
    broadcast_object,
    on_rank0,
    raise_together,
)
from ssl_zoo.distributed.process_group import TIMEOUT, RankInfo, process_group, rank_info
from ssl_zoo.distributed.run_command import run_command
from ssl_zoo.errors import CollectiveConfigError, ConfigError, Stopped

TORCHRUN = dict(
    WORLD_SIZE='4',
    RANK='3',
    LOCAL_RANK='1',
    LOCAL_WORLD_SIZE='2',
    MASTER_ADDR='10.0.0.1',
    MASTER_PORT='29500',
)
SRUN = dict(
    SLURM_JOB_ID='7',
    SLURM_STEP_ID='0',
    SLURM_STEP_NUM_TASKS='8',
    SLURM_PROCID='5',
    SLURM_LOCALID='1',
    SLURM_NTASKS='8',
    SLURM_STEP_NODELIST='node[03-05,9]',
    SLURM_STEP_TASKS_PER_NODE='4(x2)',
)


@pytest.fixture
def environment(monkeypatch):
    """Function: leave nothing of torchrun and SLURM in the environment but these."""

    def make(**values):
        kept = {
            k: v for k, v in os.environ.items() if not k.startswith('SLURM') and k not in TORCHRUN
        }
        monkeypatch.setattr(os, 'environ', {**kept, **values})
        return os.environ

    return make


# --- places


def test_one_process_needs_no_environment(environment):
    environment()
    assert rank_info() == RankInfo(0, 1, 0, 1)
    environment(WORLD_SIZE='1')
    assert rank_info() == RankInfo()


def test_torchrun_says_the_place(environment):
    environment(**TORCHRUN)
    assert rank_info() == RankInfo(3, 4, 1, 2)
    env = environment(**TORCHRUN, **SRUN)  # torchrun started by srun, one on each machine
    assert rank_info() == RankInfo(3, 4, 1, 2) and env['MASTER_ADDR'] == '10.0.0.1'


@pytest.mark.parametrize(
    ('nodes', 'first'),
    [
        ('node7', 'node7'),
        ('node[03-05,9]', 'node03'),
        ('a1,b2', 'a1'),
        ('gpu-a[001-004]', 'gpu-a001'),
        ('gpu-a[7,9],b[1-2]', 'gpu-a7'),
        ('login,node[1-2]', 'login'),
        ('n-1-[10-12]', 'n-1-10'),
        (
            'rack[0-1]_blade[2-3]',
            'rack0_blade2',
        ),  # several brackets: one must be at the end (slurm.conf)
        ('gpu-a[001-004]-x', 'gpu-a001-x'),
    ],
)  # SLURM refuses such names; they are read all the same
def test_srun_leaves_no_address_so_it_is_that_of_the_first_machine(environment, nodes, first):
    env = environment(**{**SRUN, 'SLURM_STEP_NODELIST': nodes})
    assert rank_info() == RankInfo(5, 8, 1, 4)
    assert env['MASTER_ADDR'] == first and rank_info() == RankInfo(
        5, 8, 1, 4
    )  # asked again it says the same


def test_the_port_follows_from_the_job_and_the_step_and_is_the_same_on_all(environment):
    ports = []
    for job, step, number in (
        ('7', '0', '0'),
        ('7', '0', '5'),
        ('7', '1', '0'),
        ('8', '0', '0'),
        ('4294901760', '3', '0'),
    ):
        env = environment(
            **{**SRUN, 'SLURM_JOB_ID': job, 'SLURM_STEP_ID': step, 'SLURM_PROCID': number}
        )
        rank_info()
        ports.append(int(env['MASTER_PORT']))
    assert (
        ports[0] == ports[1]
        and len(set(ports)) == 4
        and all(20000 <= port < 40000 for port in ports)
    )


def test_an_address_that_is_set_stays(environment):
    env = environment(**SRUN, MASTER_ADDR='head', MASTER_PORT='1234')
    rank_info()
    assert (env['MASTER_ADDR'], env['MASTER_PORT']) == ('head', '1234')


@pytest.mark.parametrize(('tasks', 'local'), [('4(x2)', 4), ('4,3', 4), ('1', 1), ('2(x3),1', 2)])
def test_tasks_per_machine_are_those_of_the_first(environment, tasks, local):
    environment(**{**SRUN, 'SLURM_STEP_TASKS_PER_NODE': tasks})
    assert rank_info().local_size == local


@pytest.mark.parametrize(
    'given',
    [
        dict(
            SLURM_JOB_ID='7',
            SLURM_NTASKS='8',
            SLURM_NPROCS='8',
            SLURM_PROCID='0',
            SLURM_LOCALID='0',
            SLURM_TASKS_PER_NODE='4(x2)',
            SLURM_JOB_NODELIST='node[1-2]',
        ),  # a batch script that does not call srun
        dict(SLURM_JOB_ID='7', SLURM_NTASKS='8'),  # salloc
        dict(SRUN, SLURM_STEP_NUM_TASKS='1', SLURM_PROCID='0'),
    ],
)  # srun -n 1 in a larger job
def test_a_job_without_srun_is_one_process(environment, given):
    env = environment(**given)
    assert rank_info() == RankInfo() and 'MASTER_ADDR' not in env


@pytest.mark.parametrize(
    ('given', 'sentence'),
    [
        (dict(TORCHRUN, WORLD_SIZE='four'), 'WORLD_SIZE=four, which is not a number'),
        (dict(TORCHRUN, WORLD_SIZE='-2'), 'WORLD_SIZE=-2, which is not a number'),
        (dict(TORCHRUN, WORLD_SIZE='²'), 'WORLD_SIZE=², which is not a number'),
        (dict(TORCHRUN, WORLD_SIZE='0'), 'WORLD_SIZE=0'),
        (dict(TORCHRUN, MASTER_PORT='abc'), 'MASTER_PORT=abc, which is not a number'),
        (dict(SRUN, SLURM_STEP_NODELIST=','), 'SLURM_STEP_NODELIST=,, which names no machine'),
        (dict(TORCHRUN, RANK='x'), 'RANK=x, which is not a number'),
        (dict(TORCHRUN, RANK='4'), 'RANK=4'),
        (dict(TORCHRUN, LOCAL_RANK='1.5'), 'LOCAL_RANK=1.5'),
        (dict(WORLD_SIZE='2'), 'WORLD_SIZE=2 without RANK, MASTER_ADDR, MASTER_PORT'),
        (dict(WORLD_SIZE='2', RANK='0', MASTER_ADDR='a'), 'without MASTER_PORT,'),
        (dict(SRUN, SLURM_STEP_NUM_TASKS='8x'), 'SLURM_STEP_NUM_TASKS=8x'),
        (dict(SRUN, SLURM_PROCID='one'), 'RANK=one'),
        (dict(SRUN, SLURM_PROCID='8'), 'RANK=8'),
        (dict(SRUN, SLURM_LOCALID='b'), 'LOCAL_RANK=b'),
        (dict(SRUN, SLURM_JOB_ID='12_3'), 'SLURM_JOB_ID=12_3'),
        (
            {k: v for k, v in SRUN.items() if k != 'SLURM_PROCID'},
            'SLURM_STEP_NUM_TASKS=8 without RANK',
        ),
    ],
)
def test_rubbish_gets_a_sentence(environment, given, sentence):
    environment(**given)
    with pytest.raises(ConfigError, match=sentence):
        rank_info()


def test_without_a_list_of_machines_they_meet_on_this_one(environment):
    for given in (
        {k: v for k, v in SRUN.items() if k != 'SLURM_STEP_NODELIST'},
        dict(SRUN, SLURM_STEP_NODELIST=''),
    ):
        env = environment(**given)
        assert rank_info().size == 8 and env['MASTER_ADDR'] == 'localhost'


def test_processes_that_do_not_meet_say_where(environment):
    environment(
        **{**TORCHRUN, 'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': '1', 'CUDA_VISIBLE_DEVICES': ''}
    )
    match = 'process 3 of 4 did not meet the others at 127.0.0.1:1'
    with pytest.raises(ConfigError, match=match), process_group(1):
        pass


@pytest.mark.parametrize('answer', [b'', bytes(100)])
def test_a_peer_that_accepts_and_does_not_answer_is_not_waited_for_longer_than_asked(
    environment, answer
):
    """Such a peer is a stopped process 0, or another program that has the port."""
    with socket.create_server(('127.0.0.1', 0)) as server:
        port = str(server.getsockname()[1])
        environment(**{**TORCHRUN, 'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': port})
        if answer:
            Thread(target=lambda: server.accept()[0].sendall(answer), daemon=True).start()
        started = time.monotonic()
        match = f'process 3 of 4 (waited 0.5 s|did not meet).* at 127.0.0.1:{port}'
        with pytest.raises(ConfigError, match=match), process_group(0.5):
            pass
        assert time.monotonic() - started < 20


@pytest.mark.parametrize('variable', ['SLURM_STEP_NUM_TASKS', 'WORLD_SIZE'])
def test_a_process_that_waits_says_for_whom_and_ctrl_c_ends_the_wait(
    environment, monkeypatch, capsys, variable
):
    """As in an interactive shell of SLURM, whose variables name tasks that were never started."""
    with socket.create_server(('127.0.0.1', 0)) as server:
        port = str(server.getsockname()[1])
    place = dict(RANK='0', SLURM_PROCID='0', MASTER_ADDR='127.0.0.1', MASTER_PORT=port)
    environment(**place, **{variable: '4'}, CUDA_VISIBLE_DEVICES='')
    monkeypatch.setattr('ssl_zoo.distributed.process_group.SILENCE', 0.1)
    ctrl_c = Timer(1, os.kill, [os.getpid(), signal.SIGINT])
    ctrl_c.start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt), process_group(30):
        pass
    assert time.monotonic() - started < 10
    message = capsys.readouterr().err
    assert f'process 0 of 4 waits at 127.0.0.1:{port} for the 3 others, at most 30 s' in message
    assert f'has {variable}=4' in message and f'`env -u {variable} python ...`' in message


# --- one process


def test_alone_everything_is_at_once(environment):
    environment()
    with process_group():
        assert (
            all_gather_object(3) == [3]
            and broadcast_object(4) == 4
            and raise_together(lambda: 5) == 5
            and on_rank0(lambda: 6) == 6
        )
    for agree in (raise_together, on_rank0):
        with pytest.raises(ConfigError, match='mine') as error:
            agree(lambda: (_ for _ in ()).throw(ConfigError('mine')))
        assert not isinstance(error.value, CollectiveConfigError)
    counts = AsyncCounter(2)
    assert counts.add(1, 0) == [1, 0] and counts.add(2, 5) == [3, 5] and counts.finish() == [3, 5]


def raising(error):
    def function():
        raise error

    return function


def stopped(*notes):
    error = Stopped(signal.SIGTERM, 7)
    for note in notes:
        error.add_note(note)
    return error


CODES = [
    (ConfigError('a mistake'), 2, 'error: a mistake'),
    (CollectiveConfigError('a mistake'), 2, 'error: a mistake'),
    (FloatingPointError('not finite'), 3, 'error: not finite'),
    (stopped(), 143, 'stopped by SIGTERM after step 7; go on so'),
    (stopped('like this', 'or that'), 143, 'stopped by SIGTERM after step 7; like this; or that'),
    (
        Stopped(signal.SIGUSR1, 2, False),
        138,
        'stopped by SIGUSR1 after step 2, which could not be saved; go on so',
    ),
    (KeyboardInterrupt(), 130, 'stopped; go on so'),
    (
        torch.OutOfMemoryError('out of memory. Tried\nmore'),
        2,
        'error: the device has too little memory (out of memory. Tried); for a',
    ),
    (
        OSError(28, 'No space left on device'),
        2,
        'error: [Errno 28] No space left on device; check the folder',
    ),
]
COMMON = (CollectiveConfigError, FloatingPointError, Stopped)


@pytest.mark.parametrize(
    ('error', 'code', 'sentence'), CODES, ids=lambda value: type(value).__name__
)
def test_errors_are_told_in_a_sentence_by_one_process_or_by_the_one_that_has_them(
    environment, capsys, error, code, sentence
):
    for number in (None, 0, 1):
        environment(
            **({} if number is None else {**TORCHRUN, 'RANK': str(number), 'LOCAL_RANK': '0'})
        )
        assert run_command(raising(error), 'go on so') == code
        out, err = capsys.readouterr()
        assert out == ''
        if number == 1 and isinstance(error, COMMON):
            assert err == ''  # the first process tells it
        else:
            mine = number is not None and not isinstance(error, COMMON)
            assert err.startswith(f'[process {number}] {sentence}' if mine else sentence)
            assert err.count('\n') == 1 and 'Traceback' not in err


def test_before_they_have_met_the_first_of_a_machine_speaks_for_it(environment, capsys):
    environment(**TORCHRUN)
    assert run_command(raising(ConfigError('a mistake')), '') == 2 and capsys.readouterr().err == ''


@pytest.mark.parametrize(
    'words',
    [
        '[..gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:4',
        'NCCL error: remote',
        'Timed out waiting 1000ms for recv operation to complete\nand more',
        'Broken pipe',
    ],
)
def test_a_lost_process_is_code_75_and_only_where_there_were_several(environment, capsys, words):
    environment(**{**TORCHRUN, 'LOCAL_RANK': '0'})
    assert run_command(raising(RuntimeError(words)), 'go on so') == 75
    first = words.splitlines()[0]
    assert capsys.readouterr().err == (
        f'[process 3] error: another process of this run was lost or did not answer ({first}); '
        f'go on so\n'
    )
    assert run_command(raising(torch.distributed.DistNetworkError('refused')), 'go on so') == 75
    environment()
    with pytest.raises(RuntimeError):
        run_command(raising(RuntimeError(words)), 'go on so')


def test_errors_of_the_program_are_not_hidden_and_results_are_exit_codes(environment):
    environment(**TORCHRUN)
    with pytest.raises(RuntimeError, match='shapes'):
        run_command(raising(RuntimeError('shapes do not match')), 'go on so')
    with pytest.raises(ZeroDivisionError):
        run_command(lambda: 1 // 0, '')
    assert [run_command(lambda code=code: code, '') for code in (0, 1)] == [0, 1]


def test_a_place_that_is_rubbish_is_told(environment, capsys):
    environment(WORLD_SIZE='many')
    assert run_command(lambda: 0, '') == 2 and capsys.readouterr().err.startswith(
        'error: the environment has WORLD_SIZE=many'
    )


# --- two processes

AGREE = """
import json, sys, torch
from pathlib import Path
from ssl_zoo.distributed import broadcast, rank, world_size
from ssl_zoo.distributed.run_command import run_command
from ssl_zoo.distributed.counter import AsyncCounter
from ssl_zoo.distributed.objects import *
from ssl_zoo.distributed.process_group import process_group, rank_info
from ssl_zoo.errors import CollectiveConfigError
from ssl_zoo.errors import ConfigError

def fail(*who, common=False):
    def function():
        if rank() in who:
            raise (CollectiveConfigError if common else ConfigError)(f'of {rank()}')
        return f'result of {rank()}'
    return function

def caught(agree, function):
    try:
        return agree(function)
    except CollectiveConfigError as error:
        return f'CollectiveConfigError {error}'

def main():
    out = {}
    with process_group(20):
        out['size'] = world_size()
        out['all_gather_object'] = all_gather_object(dict(a=rank()))
        out['first'] = broadcast_object([rank(), 'x' * 100 * (1 + rank())])
        failing = ((), (0,), (1,), (0, 1))
        out['raise_together'] = [caught(raise_together, fail(*ranks)) for ranks in failing]
        out['on_rank0'] = [caught(on_rank0, fail(*ranks)) for ranks in failing]
        called = []
        on_rank0(lambda: called.append(1))
        out['called'] = len(called)
        counts = AsyncCounter(2)
        out['counts'] = [counts.add(rank(), 10 * (step == 1)) for step in range(4)]
        out['counts'] += [counts.finish(), counts.finish()]
        out['again'] = [counts.add(1, 0), counts.finish()]
        out['none'] = AsyncCounter(1).finish()
        write_whole = lambda path: write_on_rank0(path, lambda file: file.write(b'whole'))
        out['keep'] = caught(write_whole, Path('kept'))
        out['kept'] = Path('kept').read_text()
        write_nothing = lambda path: write_on_rank0(path, lambda file: 1)
        out['not kept'] = caught(write_nothing, Path('/proc/none/kept'))
        out['broadcast'] = broadcast(torch.full((2,), 1.0 + rank())).tolist()
        barrier()
    out['left'] = world_size()
    Path(f'{rank_info().rank}.json').write_text(json.dumps(out))
    with process_group(20):                                           # who has left can join again
        raise_together(fail(1))
    return 0
sys.exit(run_command(main, 'go on so'))
"""


def test_two_processes_agree(processes, tmp_path):
    (tmp_path / 'agree.py').write_text(AGREE)
    (code, out, err), (other, out1, err1) = processes(2, tmp_path / 'agree.py').ended()
    assert (code, out, err) == (2, '', 'error: of 1\n'), err
    assert (other, out1, err1) == (2, '', '')  # told once, by the first
    a, b = (json.loads((tmp_path / f'{i}.json').read_text()) for i in (0, 1))
    errors = [
        'CollectiveConfigError of 0',
        'CollectiveConfigError of 1',
        'CollectiveConfigError of 0',
    ]
    assert a.pop('raise_together') == ['result of 0', *errors] and b.pop('raise_together') == [
        'result of 1',
        *errors,
    ]
    assert a.pop('called') == 1 and b.pop('called') == 0
    assert a == b
    assert a['broadcast'] == [1, 1]
    assert (
        a['size'] == 2
        and a['left'] == 1
        and a['all_gather_object'] == [dict(a=0), dict(a=1)]
        and a['first'] == [0, 'x' * 100]
    )
    assert a['on_rank0'] == [
        'result of 0',
        'CollectiveConfigError of 0',
        'result of 0',
        'CollectiveConfigError of 0',
    ]
    assert (
        a['counts'] == [[0, 0], [1, 0], [2, 20], [3, 20], [4, 20], [4, 20]]
        and a['again'] == [[4, 20], [6, 20]]
        and a['none'] == [0]
    )
    assert (
        a['keep'] is None
        and a['kept'] == 'whole'
        and a['not kept'].startswith('CollectiveConfigError could not write /proc/none/kept')
    )


LOSE = """
import os, sys, time, signal
import torch, torch.distributed as dist
from ssl_zoo.distributed import all_reduce_mean, rank
from ssl_zoo.distributed.run_command import run_command
from ssl_zoo.distributed.counter import AsyncCounter
from ssl_zoo.distributed.objects import all_gather_object, broadcast_object
from ssl_zoo.distributed.process_group import process_group
way, what = sys.argv[1:]

def main():
    with process_group(3):
        counts = AsyncCounter(1)
        for step in range(1000):
            if step == 3 and rank() == 1:
                if way == 'dies':
                    os.kill(os.getpid(), signal.SIGKILL)
                print('hangs', flush=True)
                time.sleep(60)
            dict(
                counts=lambda: counts.add(1),
                average=lambda: all_reduce_mean([torch.ones(4)]),
                all_gather_object=lambda: all_gather_object(step),
                first=lambda: broadcast_object(step),
            )[what]()
            time.sleep(0.01)
    return 0
sys.exit(run_command(main, 'go on so'))
"""


@pytest.mark.parametrize(
    ('way', 'what'),
    [('dies', 'counts'), ('dies', 'all_gather_object'), ('hangs', 'average'), ('hangs', 'counts')],
)
def test_a_process_that_is_lost_ends_the_other_in_bounded_time(processes, tmp_path, way, what):
    (tmp_path / 'lose.py').write_text(LOSE)
    group, started = processes(2, tmp_path / 'lose.py', way, what), time.monotonic()
    group.members[0].join(20)
    assert not group.members[0].is_alive() and time.monotonic() - started < 15
    if way == 'hangs':
        assert group.members[1].is_alive()
        os.kill(group.pids[1], signal.SIGKILL)
    (code, _, err), (lost, _, _) = group.ended()
    assert (code, lost) == (75, -signal.SIGKILL), err
    assert (
        '[process 0] error: another process of this run was lost or did not answer (' in err
        and err.rstrip().endswith('; go on so')
    )
    assert 'Traceback' not in err


def test_an_error_of_the_program_on_one_process_does_not_make_it_wait_for_the_others(
    processes, tmp_path
):
    (tmp_path / 'bug.py').write_text("""
import sys
from ssl_zoo.distributed import rank
from ssl_zoo.distributed.run_command import run_command
from ssl_zoo.distributed.objects import barrier
from ssl_zoo.distributed.process_group import process_group
def main():
    with process_group(20):
        barrier()
        if rank() == 1:
            1 / 0
        barrier()
sys.exit(run_command(main, 'go on so'))
""")
    started = time.monotonic()
    (code, _, err), (bug, _, trace) = processes(2, tmp_path / 'bug.py').ended()
    assert (code, bug) == (75, 1) and 'ZeroDivisionError' in trace and 'Traceback' not in err
    assert time.monotonic() - started < 10


def test_the_timeout_is_half_an_hour_unless_said_otherwise():
    assert TIMEOUT == 1800
