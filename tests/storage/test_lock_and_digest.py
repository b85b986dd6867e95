"""Lock files and digests."""

import hashlib
import os
import signal

import pytest
import torch

from ssl_zoo.storage.digest import sha256_of_file, sha256_of_json, sha256_of_tensors
from ssl_zoo.storage.lock import FileLock

pytestmark = pytest.mark.quick


def test_a_lock_excludes_another_process_and_names_its_holder(tmp_path):
    ready, release = os.pipe(), os.pipe()
    if (pid := os.fork()) == 0:
        lock = FileLock(tmp_path / '.lock')
        os.write(ready[1], b'1' if lock.acquire() and lock.locked else b'0')
        os.read(release[0], 1)
        os._exit(0)
    try:
        assert os.read(ready[0], 1) == b'1'
        lock = FileLock(tmp_path / '.lock')
        assert not lock.acquire() and not lock.locked
        assert lock.holder().startswith(f'process {pid} on ')
        os.write(release[1], b'x')
        os.waitpid(pid, 0)
        assert lock.acquire(wait=True) and lock.locked
        assert lock.holder().startswith(f'process {os.getpid()} on ')
    finally:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def test_a_file_system_without_locks_stops_nobody(tmp_path, monkeypatch):
    def lockf(file, flags):
        raise OSError(38, 'Function not implemented')

    monkeypatch.setattr('fcntl.lockf', lockf)
    lock = FileLock(tmp_path / '.lock')
    assert lock.acquire() and not lock.locked


def test_digests_are_those_of_the_bytes_by_hand(tmp_path):
    (tmp_path / 'a').write_bytes(b'abc')
    assert sha256_of_file(tmp_path / 'a') == hashlib.sha256(b'abc').hexdigest()
    assert (
        sha256_of_json(dict(b=1, a=(1, 2))) == hashlib.sha256(b'{"a": [1, 2], "b": 1}').hexdigest()
    )
    tensor = torch.tensor([[1, 2]], dtype=torch.uint8)
    by_hand = b"'w':" + b'torch.uint8(1, 2)' + b'\x01\x02' + b"'n':" + b'[2' + b'1' + b"'x'"
    assert sha256_of_tensors(dict(w=tensor, n=[1, 'x'])) == hashlib.sha256(by_hand).hexdigest()
