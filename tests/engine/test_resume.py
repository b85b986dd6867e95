"""Resuming: what the next progress line says, and which optimizer states are refused."""

import json

import pytest
import torch

from ssl_zoo.checkpoint import add_digest, checkpoints_in, read_checkpoint
from ssl_zoo.engine.resume import check_optimizer_state
from ssl_zoo.engine.trainer import build_trainer
from ssl_zoo.errors import ConfigError


def means(work_dir):
    rows = map(json.loads, (work_dir / 'log.jsonl').read_text().splitlines())
    timed = ('train/images_per_second', 'train/data_wait')
    return [{key: row[key] for key in row if key not in timed} for row in rows]


def test_the_line_after_a_resume_has_the_means_of_a_run_that_was_not_stopped(tiny, tmp_path):
    settings = tiny(log_every=5, checkpoint=dict(every=0.4, keep=9))  # 7 steps an epoch
    build_trainer(settings, tmp_path / 'whole').fit()
    whole = means(tmp_path / 'whole')
    assert [row['step'] for row in whole] == [1, 5, 10, 14]
    for path in checkpoints_in(tmp_path / 'whole'):
        step = int(path.stem[5:])
        if step in (3, 12):  # between two lines
            run = tmp_path / f'from {step}'
            build_trainer(settings, run, resume=str(path)).fit()
            assert means(run) == [row for row in whole if row['step'] > step]
            # And once more, from a checkpoint of the resumed run.
            if step == 3:
                again = tmp_path / 'again'
                second = run / 'checkpoints' / 'step_00000009.pth'
                build_trainer(settings, again, resume=str(second)).fit()
                assert means(again) == [row for row in whole if row['step'] > 9]


def test_a_checkpoint_without_these_scalars_resumes(tiny, tmp_path):
    build_trainer(tiny(), tmp_path / 'run').fit()
    path = checkpoints_in(tmp_path / 'run')[1]
    content = read_checkpoint(path)
    del content['hooks']['ssl_zoo.progress']
    torch.save(add_digest(content), tmp_path / path.name)
    runner = build_trainer(tiny(), tmp_path / 'resumed', resume=str(tmp_path / path.name))
    runner.fit()
    assert runner.step == 14


@pytest.mark.parametrize(
    'state', ['text', dict(names=['loss'], values=torch.zeros(2, 3)), dict(names=3)]
)
def test_scalars_of_another_shape_are_refused(tiny, tmp_path, state):
    build_trainer(tiny(epochs=1), tmp_path / 'run').fit()
    path = checkpoints_in(tmp_path / 'run')[0]
    content = read_checkpoint(path)
    content['hooks']['ssl_zoo.progress'] = state
    torch.save(add_digest(content), tmp_path / path.name)
    again = build_trainer(tiny(epochs=1), tmp_path / 'resumed', resume=str(tmp_path / path.name))
    with pytest.raises(ConfigError, match="'ssl_zoo.progress' of the checkpoint must be names"):
        again.fit()


def optimizers():
    network = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
    groups = [
        dict(params=[network[0].weight, network[1].weight], names=['a', 'b']),
        dict(params=[network[0].bias, network[1].bias], names=['c', 'd']),
    ]
    for kind, arguments in (
        (torch.optim.AdamW, {}),
        (torch.optim.SGD, dict(lr=0.1, momentum=0.9)),
        (torch.optim.Adafactor, {}),
        (torch.optim.RMSprop, dict(momentum=0.9, centered=True)),
        (torch.optim.Adagrad, {}),
        (torch.optim.Rprop, {}),
    ):
        optimizer = kind([dict(group) for group in groups], **arguments)
        network(torch.randn(5, 3)).square().sum().backward()
        optimizer.step()
        yield optimizer, kind([dict(group) for group in groups], **arguments)


@pytest.mark.quick
def test_the_states_of_torchs_optimizers_pass():
    for optimizer, new in optimizers():
        check_optimizer_state(optimizer.state_dict(), new)
        new.load_state_dict(optimizer.state_dict())


def changed(state, path, value):
    state = _copy(state)
    *parents, last = path
    inner = state
    for key in parents:
        inner = inner[key]
    inner[last] = value
    return state


def _copy(value):
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value


@pytest.mark.quick
@pytest.mark.parametrize(
    ('path', 'value', 'words'),
    [
        (['param_groups'], 'text', 'param_groups must be 2 groups'),
        (['param_groups', 1], 'text', 'param_groups must be 2 groups'),
        (['param_groups', 0, 'params'], [0, 0], 'the parameters of group 0 are others'),
        (['param_groups', 0, 'lr'], 'fast', 'lr of group 0 must be like'),
        (['param_groups', 0, 'lr'], True, 'lr of group 0 must be like'),
        (['param_groups', 0, 'betas'], [0.9], 'betas of group 0 must be like'),
        (['param_groups', 1, 'names'], ['c', 'x'], 'names of group 1 must be like'),
        (['state'], [], 'state is of others'),
        (['state', 7], {}, 'state is of others'),
        (['state', 0], 'text', 'the state of parameter 0 must be a dict'),
        (['state', 0, 'exp_avg'], 'text', "'exp_avg' of parameter 0"),
        (['state', 0, 'exp_avg'], torch.zeros(1), "'exp_avg' of parameter 0"),
        (['state', 0, 'step'], 'text', "'step' of parameter 0"),
    ],
)
def test_an_optimizer_state_of_other_types_or_shapes_is_refused(path, value, words):
    optimizer, new = next(optimizers())
    with pytest.raises(ConfigError, match=words):
        check_optimizer_state(changed(optimizer.state_dict(), path, value), new)
