"""tools/replay.py: what is refused."""

import pytest
import torch

from ssl_zoo.build import build_method
from ssl_zoo.config.settings import settings_from_dict
from ssl_zoo.data.views import PARAMS
from ssl_zoo.engine.replay import replay_step
from ssl_zoo.errors import ConfigError


def test_what_is_no_dump_gets_a_sentence(tmp_path, run_tool, root):
    torch.save(dict(format='ssl_zoo checkpoint 3'), tmp_path / 'foreign.pth')
    done = run_tool(root / 'tools/replay.py', tmp_path / 'foreign.pth')
    assert (
        done.returncode == 2
        and 'not a replay file of ssl_zoo' in done.stderr
        and len(done.stderr.splitlines()) == 1
    )


@pytest.fixture(scope='module')
def dump():
    """The content of a replay file of BYOL on two views of 20 px."""
    method = dict(
        type='BYOL',
        backbone=dict(name='resnet18', stem='cifar', width=0.125, layers=[1, 1, 1, 1]),
        hidden_dim=32,
        proj_dim=16,
    )
    settings = settings_from_dict(
        dict(
            method=method,
            data=dict(train=dict(type='Digits', split='val')),
            views=[dict(size=20, jitter=[0.1] * 4, jitter_p=1.0)] * 2,
            optimizer=dict(type='LARS', momentum=0.9),
            epochs=2,
            batch_size=4,
            base_lr=1.0,
        )
    )
    return dict(
        format='ssl_zoo step 1',
        config=settings.to_builtin(),
        iter=3,
        found='the loss',
        batch=dict(
            views=[torch.zeros(4, 3, 20, 20, dtype=torch.uint8)] * 2,
            params=[torch.zeros(4, len(PARAMS))] * 2,
            index=torch.arange(4),
        ),
        progress=0.5,
        epoch=1.0,
        seed=0,
        method=build_method(settings).state_dict(),
    )


def test_a_whole_dump_is_done_again(dump, tmp_path):
    torch.save(dump, tmp_path / 'whole.pth')
    assert replay_step(tmp_path / 'whole.pth') == ('the loss', None)


BATCH = dict(
    views=[torch.zeros(4, 3, 20, 20, dtype=torch.uint8)] * 2,
    params=[torch.zeros(4, 13)] * 2,
    index=torch.arange(4),
)
CHANGES = {
    **{f'no {key}': {key: None} for key in ('config', 'batch', 'method', 'found', 'iter', 'seed')},
    'no progress': dict(progress=None),
    'epoch': dict(epoch=float('nan')),
    'a config of a few keys': dict(config=dict(method=dict(type='BYOL'))),
    'a batch of a few keys': dict(batch=dict(index=torch.arange(4))),
    'another index': dict(batch=dict(BATCH, index=3)),
    'no images': dict(batch=dict(BATCH, index=torch.arange(0))),
    'one view': dict(batch=dict(BATCH, views=BATCH['views'][:1])),
    'images of another size': dict(batch=dict(BATCH, views=[torch.zeros(4, 3, 8, 8)] * 2)),
    'texts': dict(batch=dict(BATCH, views=['a', 'b'])),
    'other parameters': dict(batch=dict(BATCH, params=[torch.zeros(4, 3)] * 2)),
    'an order that does not exist': dict(
        batch=dict(BATCH, params=[torch.full((4, 13), 1e9)] * 2),
    ),
    'weights of nothing': dict(method={}),
    'weights that are texts': dict(method=dict(a='b')),
    'a step below 0': dict(iter=-1),
}


@pytest.mark.parametrize('kind', CHANGES)
def test_a_dump_that_is_not_whole_gets_a_sentence(dump, tmp_path, kind):
    changed = {**dump, **CHANGES[kind]}
    for content in (changed, {key: item for key, item in changed.items() if item is not None}):
        torch.save(content, tmp_path / 'changed.pth')
        with pytest.raises(ConfigError) as error:
            replay_step(tmp_path / 'changed.pth')
        assert len(str(error.value).splitlines()) == 1
