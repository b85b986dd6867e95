"""A work directory holds one run, and a run touches no file that is not a run's."""

import pytest

from ssl_zoo.engine.work_dir import REPLACED_FILES, claim
from ssl_zoo.errors import ConfigError

pytestmark = pytest.mark.quick


@pytest.mark.parametrize('name', REPLACED_FILES)
def test_a_folder_with_files_of_the_user_is_refused(tmp_path, name):
    (tmp_path / name).write_text('mine')
    with pytest.raises(ConfigError, match=f'holds {name}, which no run has written'):
        claim(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_run_that_was_killed_before_its_first_checkpoint_starts_again(tmp_path):
    claim(tmp_path).release()
    (tmp_path / 'config.py').touch()
    claim(tmp_path).release()


def test_a_run_copied_without_its_lock_file_is_a_run(tmp_path):
    (tmp_path / 'checkpoints').mkdir()
    (tmp_path / 'checkpoints/step_00000007.pth').touch()
    (tmp_path / 'config.py').touch()
    claim(tmp_path).release()


def test_only_temporary_files_of_a_run_are_removed(tmp_path):
    (tmp_path / 'checkpoints').mkdir()
    own = ['checkpoints/step_00000007.pth.tmp.12', 'log.jsonl.tmp.7', 'views.png.tmp.1']
    others = ['checkpoints/notes.tmp.txt', 'checkpoints/best.pth.tmp.12', 'log.jsonl.tmp.old']
    for name in own + others:
        (tmp_path / name).touch()
    claim(tmp_path).release()
    assert [name for name in own + others if (tmp_path / name).exists()] == others
