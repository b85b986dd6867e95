"""Hooks of a config: when they are called, what they see, what they keep, and mistakes."""

import pytest
import torch
from mmengine.hooks import EmptyCacheHook, Hook
from mmengine.registry import HOOKS as MMENGINE_HOOKS

from ssl_zoo.checkpoint import checkpoints_in, read_checkpoint
from ssl_zoo.engine.custom_hooks import REPLACED, build_custom_hooks
from ssl_zoo.engine.trainer import build_trainer
from ssl_zoo.errors import ConfigError
from ssl_zoo.registry import HOOKS


@HOOKS.register_module(force=True)
class Recorder(Hook):
    """Notes the calls, and counts steps and epochs over resumes."""

    def __init__(self, stop_at: int = -1):
        self.calls = []
        self.counts = dict(steps=0, epochs=0)
        self.stop_at = stop_at

    def before_run(self, runner):
        self.calls.append(('before_run', runner.max_iters, runner.max_epochs))

    def before_train_epoch(self, runner):
        self.calls.append(('before_train_epoch', runner.iter, runner.epoch))

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        assert batch_idx == runner.iter and torch.isfinite(outputs['loss'])
        assert set(data_batch) >= {'index'} and runner.model.training
        self.counts['steps'] += 1

    def after_train_epoch(self, runner):
        self.calls.append(('after_train_epoch', runner.iter, runner.epoch))
        self.counts['epochs'] += 1

    def after_optimizer_step(self, runner):
        if runner.step == self.stop_at:
            raise KeyboardInterrupt

    def after_run(self, runner):
        self.calls.append(('after_run', runner.iter, runner.epoch))

    def before_save_checkpoint(self, runner, checkpoint):
        checkpoint['recorder'] = dict(self.counts)

    def after_load_checkpoint(self, runner, checkpoint):
        self.counts = dict(checkpoint.get('recorder', self.counts))


def recorders(runner):
    return [hook for hook in runner.hooks if isinstance(hook, Recorder)]


def test_a_hook_is_called_at_mmengines_points_with_its_counts(tiny, tmp_path):
    runner = build_trainer(tiny(hooks=[dict(type='Recorder')]), tmp_path)
    [hook] = recorders(runner)
    runner.fit()
    assert hook.calls == [
        ('before_run', 14, 2),
        ('before_train_epoch', 0, 0),
        ('after_train_epoch', 7, 0),
        ('before_train_epoch', 7, 1),
        ('after_train_epoch', 14, 1),
        ('after_run', 14, 2),
    ]
    assert hook.counts == dict(steps=14, epochs=2)
    content = read_checkpoint(checkpoints_in(tmp_path)[0])
    assert content['hooks']['recorder'] == hook.counts


def test_what_a_hook_keeps_is_there_after_a_resume(tiny, tmp_path):
    stopped = tiny(hooks=[dict(type='Recorder', stop_at=9)], checkpoint=dict(every=1 / 7))
    with pytest.raises(KeyboardInterrupt):
        build_trainer(stopped, tmp_path).fit()
    settings = tiny(hooks=[dict(type='Recorder')], checkpoint=dict(every=1 / 7))
    runner = build_trainer(settings, tmp_path, resume=True)
    runner.fit()
    [hook] = recorders(runner)
    assert hook.counts == dict(steps=14, epochs=2)
    assert hook.calls[1:] == [
        ('before_train_epoch', 8, 1),  # the hook stopped step 9 before its checkpoint
        ('after_train_epoch', 14, 1),
        ('after_run', 14, 2),
    ]


def test_hooks_of_mmengine_change_no_weight(tiny, tmp_path, monkeypatch):
    emptied = []
    monkeypatch.setattr(EmptyCacheHook, '_after_epoch', lambda *_, **__: emptied.append(1))
    hooks = [
        dict(type='EmptyCacheHook'),
        dict(type='ProfilerHook', json_trace_path=str(tmp_path / 'trace.json')),
        dict(type='SyncBuffersHook', priority='LOW'),
    ]
    weights = []
    for name, chosen in dict(with_hooks=hooks, without=[]).items():
        runner = build_trainer(tiny(hooks=chosen, epochs=1), tmp_path / name)
        runner.fit()
        weights.append(runner.method.state_dict())
    assert emptied == [1]
    assert (tmp_path / 'trace.json').stat().st_size > 10_000
    assert all(torch.equal(weights[0][name], value) for name, value in weights[1].items())
    assert (
        'hooks     EmptyCacheHook, ProfilerHook, SyncBuffersHook'
        in (tmp_path / 'with_hooks/train.log').read_text()
    )


def test_a_hook_that_is_registered_with_mmengine_is_found():
    @MMENGINE_HOOKS.register_module(force=True)
    class OfMmengine(Hook):
        pass

    hook, other = build_custom_hooks([dict(type='OfMmengine', priority=7), dict(type='OfMmengine')])
    assert type(hook) is OfMmengine and hook.priority == 7 and other.priority == 'NORMAL'


def test_hooks_are_called_in_the_order_of_their_priority(tiny, tmp_path):
    low, high = dict(type='Recorder', priority='LOWEST'), dict(type='Recorder', priority='HIGHEST')
    runner = build_trainer(tiny(hooks=[low, high]), tmp_path)
    assert recorders(runner) == [runner.hooks[0], runner.hooks[-1]]


def test_what_a_checkpoint_cannot_hold_is_left_out_with_a_word(tiny, tmp_path):
    @HOOKS.register_module(force=True)
    class Unsaved(Hook):
        def before_save_checkpoint(self, runner, checkpoint):
            checkpoint.update(function=print, kept=[1, 2.0, 'a', None, torch.ones(2), (True,)])

    runner = build_trainer(tiny(hooks=[dict(type='Unsaved')], epochs=1), tmp_path)
    runner.fit()
    saved = read_checkpoint(checkpoints_in(tmp_path)[0])['hooks']
    assert list(saved) == ['ssl_zoo.progress', 'kept'] and saved['kept'][:4] == [1, 2.0, 'a', None]
    assert "'function' of a hook is not saved" in (tmp_path / 'train.log').read_text()


def test_a_type_error_of_a_hook_keeps_its_place(tiny, tmp_path):
    @HOOKS.register_module(force=True)
    class Wrong(Hook):
        def before_train(self, runner):
            len(3)

    with pytest.raises(TypeError) as raised:
        build_trainer(tiny(hooks=[dict(type='Wrong')]), tmp_path).fit()
    assert raised.traceback[-1].name == 'before_train'


@pytest.mark.parametrize(
    ('hooks', 'sentence'),
    [
        (dict(type='Recorder'), 'hooks'),
        ([3], 'a hook is written dict(type=..., ...), got 3'),
        ([dict(type='Recordr')], "'Recordr' is not a registered hook: did you mean 'Recorder'"),
        ([dict(type='Recorder', stopat=3)], "hook 'Recorder' has no argument 'stopat'"),
        ([dict(type='Recorder', priority='FIRST')], "hook 'Recorder' has priority='FIRST'"),
        ([dict(type='Recorder', priority=101)], "hook 'Recorder' has priority=101"),
        ([dict(type='os.system')], "'os.system' is not a registered hook"),
        ([dict(type='Recorder', priority='LOW'), {}], 'a hook is written dict(type=..., ...)'),
    ],
)
def test_mistakes_get_a_sentence(tiny, tmp_path, hooks, sentence):
    with pytest.raises(ConfigError, match='hook') as raised:
        build_trainer(tiny(hooks=hooks), tmp_path / 'run')
    assert sentence in str(raised.value)


@pytest.mark.parametrize('name', sorted(REPLACED))
def test_hooks_whose_work_a_run_does_are_refused(name):
    with pytest.raises(ConfigError, match=f"hooks names mmengine's {name}, but "):
        build_custom_hooks([dict(type=name)])
    assert name in MMENGINE_HOOKS.module_dict  # the name is right
