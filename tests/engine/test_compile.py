"""compile=True: the same losses, one compilation for training, evaluation beside it, weights under the same names."""
import json

import pytest
import torch

from ssl_zoo.engine.checkpoint import checkpoints_in, load_method
from ssl_zoo.engine.runner import build_runner
from ssl_zoo.registry import ConfigError


def test_a_compiled_run_is_the_eager_one_within_rounding(tiny, tmp_path):
    losses = {}
    for compiled in (False, True):
        torch._dynamo.utils.counters.clear()
        runner = build_runner(tiny(compile=compiled, log_every=1, epochs=1, watch=dict(every=0.5)), tmp_path / f'{compiled}')
        runner.train()
        rows = map(json.loads, (tmp_path / f'{compiled}' / 'log.jsonl').read_text().splitlines())
        losses[compiled] = [row['train/loss'] for row in rows if 'train/loss' in row]
        graphs = torch._dynamo.utils.counters['stats'].get('unique_graphs', 0)
        assert graphs == (2 if compiled else 0)                       # online and target network, in train mode alone
    assert losses[True] == pytest.approx(losses[False], rel=2e-3) and losses[True][0] == pytest.approx(losses[False][0], rel=1e-5)
    method, _, step = load_method(checkpoints_in(tmp_path / 'True')[0])
    assert step == 7 and method.state_dict().keys() == runner.method.state_dict().keys()


def test_without_a_compiler_there_is_a_sentence(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv('CXX', 'no-such-compiler')
    with pytest.raises(ConfigError, match='compile=True needs a C.. compiler, and there is no no-such-compiler'):
        build_runner(tiny(compile=True), tmp_path)
    assert not list(tmp_path.iterdir())
