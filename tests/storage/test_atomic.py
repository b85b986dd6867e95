"""Files are written completely or not at all, and replace only files of their own kind."""

import os

import pytest

from ssl_zoo.storage.atomic import append_lines, atomic_write, leftovers
from ssl_zoo.storage.lock import FileLock

pytestmark = pytest.mark.quick


@pytest.fixture(params=['link', 'dangling link', 'pipe', 'folder', 'device'])
def irregular(request, tmp_path):
    """A path at which something else than a regular file lies, and a function that describes it."""
    path = tmp_path / 'out.html'
    target = tmp_path / 'target'
    if request.param == 'pipe':
        os.mkfifo(path)
    elif request.param == 'folder':
        path.mkdir()
    elif request.param == 'device':
        path = tmp_path / 'null'
        try:
            os.mknod(path, 0o666 | 0o020000, os.makedev(1, 3))
        except PermissionError:
            pytest.skip('this process may make no device')
    else:
        path.symlink_to(target)
        if request.param == 'link':
            target.write_text('mine')

    def state():
        status = os.lstat(path)
        content = target.read_text() if target.exists() else None
        return status.st_ino, status.st_mode, content, sorted(os.listdir(tmp_path))

    return path, state


def test_only_a_regular_file_is_replaced(irregular):
    path, state = irregular
    before = state()
    with pytest.raises(OSError, match='not a regular file'):
        atomic_write(path, lambda file: file.write(b'new'))
    assert state() == before


def test_a_file_of_another_kind_is_not_replaced(tmp_path):
    path = tmp_path / 'results.jsonl'
    for content in (b'{"value": 1}\n', b'<', b'<!doctyp'):
        path.write_bytes(content)
        with pytest.raises(OSError, match='a file of another kind is there already'):
            atomic_write(path, lambda file: file.write(b'<!doctype x'), start=b'<!doctype')
        assert path.read_bytes() == content
    for content in (b'', b'<!doctype old'):
        path.write_bytes(content)
        atomic_write(path, lambda file: file.write(b'<!doctype x'), start=b'<!doctype')
        assert path.read_bytes() == b'<!doctype x'


def test_lines_are_appended_to_files_and_through_links_only(tmp_path):
    (tmp_path / 'link').symlink_to('rows')
    append_lines(tmp_path / 'link', 'a\n')
    append_lines(tmp_path / 'link', 'b\n')
    assert (tmp_path / 'rows').read_text() == 'a\nb\n'
    os.mkfifo(tmp_path / 'pipe')
    for path in (tmp_path / 'pipe', tmp_path):
        with pytest.raises(OSError, match='not a regular file'):
            append_lines(path, 'a\n')


def test_a_lock_empties_no_file_behind_a_link(tmp_path):
    (tmp_path / 'mine').write_text('mine')
    (tmp_path / '.lock').symlink_to('mine')
    with pytest.raises(OSError, match='not a regular file'):
        FileLock(tmp_path / '.lock')
    assert (tmp_path / 'mine').read_text() == 'mine'


def test_leftovers_are_temporary_files_of_that_name_alone(tmp_path):
    own = ['log.jsonl.tmp.7', 'a.png.tmp.123']
    others = ['log.jsonl.tmp.', 'log.jsonl.tmp.7.txt', 'my_log.jsonl.tmp.7', 'logXjsonl.tmp.7']
    for name in own + others:
        (tmp_path / name).touch()
    found = leftovers(tmp_path, r'log\.jsonl|a\.png')
    assert sorted(path.name for path in found) == sorted(own)
