"""compile=True: the same losses, one compilation for training, evaluation beside it, weights under
the same names.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch._inductor.runtime.cache_dir_utils import cache_dir

from ssl_zoo.build import build_method, load_method
from ssl_zoo.checkpoint import checkpoints_in
from ssl_zoo.data.photometric import Photometric
from ssl_zoo.data.views import View, sample
from ssl_zoo.engine.compile import compile_backbones
from ssl_zoo.engine.trainer import build_trainer
from ssl_zoo.errors import ConfigError


@pytest.mark.long
def test_a_compiled_run_is_the_eager_one_within_rounding(tiny, tmp_path):
    losses = {}
    for compiled in (False, True):
        torch._dynamo.utils.counters.clear()
        runner = build_trainer(
            tiny(
                data=dict(train=dict(type='Digits', split='val'), val=40),
                compile=compiled,
                log_every=1,
                epochs=1,
                online_eval=dict(every=0.5),
            ),
            tmp_path / f'{compiled}',
        )
        runner.fit()
        rows = map(json.loads, (tmp_path / f'{compiled}' / 'log.jsonl').read_text().splitlines())
        losses[compiled] = [row['train/loss'] for row in rows if 'train/loss' in row]
        graphs = torch._dynamo.utils.counters['stats'].get('unique_graphs', 0)
        # Online and target network, in train mode alone; blends, hue, gray, and the end of the
        # photometric step.
        assert graphs == (2 + 4 if compiled else 0)
    assert losses[True] == pytest.approx(losses[False], rel=2e-3) and losses[True][
        0
    ] == pytest.approx(losses[False][0], rel=1e-5)
    method, _, step = load_method(checkpoints_in(tmp_path / 'True')[0])
    assert step == 7 and method.state_dict().keys() == runner.method.state_dict().keys()


@pytest.mark.long
def test_the_compiled_photometric_step_is_the_eager_one_within_rounding():
    view = View(
        40, jitter=(0.4, 0.4, 0.2, 0.1), jitter_p=0.8, gray_p=0.2, blur_p=0.5, solarize_p=0.4
    )
    step, n = Photometric([view], (0.1, 0.2, 0.3), (0.5, 0.25, 0.2), channels_last=True), 16
    for batch in range(3):  # of other numbers, sizes of what is blurred, and shapes
        rows = torch.from_numpy(sample(view, 0, np.full(n, batch), np.arange(n), 0))
        data = dict(
            views=[torch.randint(0, 256, (n, 3, 40, 40), dtype=torch.uint8)],
            params=[rows],
            index=torch.arange(n),
        )
        made = []
        for step.compiled in (False, True):
            made.append(step(data)['views'][0])
        away = (
            (made[0] * step.std + step.mean) - 0.5
        ).abs() > 1e-4  # at the threshold of solarize rounding decides
        assert away.float().mean() > 0.9
        torch.testing.assert_close(made[0][away], made[1][away], atol=1e-5, rtol=0)
        assert made[1].is_contiguous(memory_format=torch.channels_last)


def test_what_is_compiled_is_kept_for_the_next_run(tiny, tmp_path, monkeypatch):
    monkeypatch.delenv('TORCHINDUCTOR_CACHE_DIR', raising=False)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    compile_backbones(build_method(tiny()), torch.device('cpu'))
    assert (
        Path(cache_dir()) == tmp_path / 'cache' / 'ssl_zoo' / 'inductor'
        and Path(cache_dir()).is_dir()
    )
    monkeypatch.setenv('TORCHINDUCTOR_CACHE_DIR', str(tmp_path / 'mine'))
    compile_backbones(build_method(tiny()), torch.device('cpu'))
    assert Path(cache_dir()) == tmp_path / 'mine'
    monkeypatch.delenv('TORCHINDUCTOR_CACHE_DIR')
    monkeypatch.setenv('XDG_CACHE_HOME', '/proc/nowhere')  # cannot be made
    compile_backbones(build_method(tiny()), torch.device('cpu'))
    assert 'nowhere' not in cache_dir()


def test_without_a_compiler_there_is_a_sentence(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv('CXX', 'no-such-compiler')
    with pytest.raises(
        ConfigError, match='compile=True needs a C.. compiler, and there is no no-such-compiler'
    ):
        build_trainer(tiny(compile=True), tmp_path)
    assert not list(tmp_path.iterdir())
