"""Reading files that somebody else may have written."""

import numpy as np
import pytest

from ssl_zoo.storage import reading
from ssl_zoo.storage.reading import open_npz

pytestmark = pytest.mark.quick


def test_an_archive_of_arrays_is_not_expanded_beyond_its_limit(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / 'bomb.npz', predicted=np.zeros(10**6, np.int64))
    np.savez(tmp_path / 'plain.npz', predicted=np.arange(10**5))
    monkeypatch.setattr(reading, 'NPZ_BYTES', 10**5)
    with pytest.raises(ValueError, match='more than the limit of 1'):
        open_npz(tmp_path / 'bomb.npz')
    with open_npz(tmp_path / 'plain.npz') as file:
        assert file['predicted'].sum() == np.arange(10**5).sum()
    (tmp_path / 'text.npz').write_text('no archive')
    with pytest.raises(ValueError, match='zip'):
        open_npz(tmp_path / 'text.npz')
