"""Writers of the config: what reaches them, and that none costs the run."""

import logging
import threading
import time

import numpy as np
import pytest
from mmengine.visualization.vis_backend import BaseVisBackend
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ssl_zoo.engine import writers as writers_module
from ssl_zoo.engine.trainer import build_trainer
from ssl_zoo.engine.writers import BackgroundWriter, WandbWriter, build_writer
from ssl_zoo.errors import ConfigError
from ssl_zoo.evaluation.results import rows_of
from ssl_zoo.registry import WRITERS


@WRITERS.register_module()
class Memory(BaseVisBackend):
    """Keeps all calls; fails or waits where it is told."""

    calls: list = []

    def __init__(self, save_dir: str, fails: str = '', waits: float = 0.0):
        super().__init__(save_dir)
        self.fails = fails
        self.waits = waits

    @property
    def experiment(self):
        return self

    def _init_env(self):
        pass

    def _call(self, name, *arguments):
        time.sleep(self.waits)
        if name == self.fails:
            raise OSError(f'{name} does not answer')
        Memory.calls.append((name, *arguments, threading.current_thread().name))

    def add_config(self, config, **_):
        self._call('config', config.to_dict())

    def add_scalars(self, scalar_dict, step=0, file_path=None, **_):
        self._call('scalars', scalar_dict, step)

    def add_image(self, name, image, step=0, **_):
        self._call('image', name, image)

    def close(self):
        self._call('close')


@pytest.fixture(autouse=True)
def empty():
    Memory.calls = []


DATA = dict(
    train=dict(type='Digits', split='val', limit=140),
    val=40,
    test=dict(type='Digits', split='test', limit=60),
    mean=[0.5] * 3,
    std=[0.5] * 3,
)


def test_config_scalars_views_and_final_figures_arrive(tiny, tmp_path):
    settings = tiny(data=DATA, writers=[dict(type='Memory')], online_eval=dict(every=1))
    trainer = build_trainer(settings, tmp_path)
    trainer.fit()
    (first, config, _), *calls = Memory.calls
    assert first == 'config' and config['batch_size'] == settings.batch_size
    assert config['work_dir'] == str(tmp_path)
    [image] = [call for call in calls if call[0] == 'image']
    assert image[1] == 'views' and image[2].dtype == np.uint8 and image[2].shape[2] == 3
    logged = [row for row in rows_of(tmp_path / 'log.jsonl')]
    scalars = [call for call in calls if call[0] == 'scalars']
    for row in logged:
        values = {key: value for key, value in row.items() if '/' in key}
        assert any(step == row['step'] and values.items() <= s.items() for _, s, step, _ in scalars)
    results = {
        row['metric']: row['value']
        for row in rows_of(tmp_path / 'results.jsonl')
        if row['weights'] == 'trained'
    }
    finals = [s for _, s, step, _ in scalars if 'test/knn_top1' in s and step == trainer.step]
    assert finals == [{f'test/{name}': value for name, value in results.items()}]
    assert calls[-1][0] == 'close'
    assert {call[-1] for call in Memory.calls} == {'writer Memory'}  # never the training's thread
    assert not (tmp_path / 'tensorboard').exists()  # it is not among the writers


def test_tensorboard_is_the_default_and_has_the_picture_of_the_views(tiny, tmp_path):
    build_trainer(tiny(epochs=1), tmp_path).fit()
    events = EventAccumulator(str(tmp_path / 'tensorboard')).Reload()
    assert events.Tags()['images'] == ['views'] and 'train/loss' in events.Tags()['scalars']


@pytest.mark.parametrize('fails', ['config', 'scalars', 'image', 'close'])
def test_an_error_costs_one_warning_and_never_the_run(tiny, tmp_path, fails):
    trainer = build_trainer(tiny(writers=[dict(type='Memory', fails=fails)], epochs=1), tmp_path)
    trainer.fit()
    log = (tmp_path / 'train.log').read_text()
    assert log.count('warning: writer Memory has failed in') == 1
    assert f'OSError: {fails} does not answer); the run goes on without it' in log
    assert trainer.step == trainer.max_steps


def test_a_service_that_does_not_answer_does_not_hold_up_the_run(tmp_path, caplog, monkeypatch):
    logger = logging.getLogger('writers')
    released = threading.Event()
    writer = Memory(str(tmp_path))
    monkeypatch.setattr(writer, '_call', lambda *_: released.wait(60))
    monkeypatch.setattr(writers_module, 'MAX_WAITING', 3)
    background = BackgroundWriter('Silent', writer, logger)
    started = time.monotonic()
    for step in range(9):
        background.call('add_scalars', {'a': 1.0}, step)
    background.close(time.monotonic())
    assert time.monotonic() - started < 30
    assert caplog.text.count('writer Silent has not answered for 3 calls') == 1
    released.set()


def test_calls_that_are_waited_for_at_the_end_are_all_made(tmp_path):
    background = BackgroundWriter('Slow', Memory(str(tmp_path), waits=0.01), logging.getLogger())
    for step in range(20):
        background.call('add_scalars', {'a': 1.0}, step)
    background.close(time.monotonic() + 60)
    assert [call[2] for call in Memory.calls[:-1]] == list(range(20))
    assert Memory.calls[-1][0] == 'close'


@pytest.mark.parametrize(
    ('config', 'sentence'),
    [
        (dict(type='WandBackend'), "'WandBackend' is not a registered writer"),
        (dict(type='Memory', fail='x'), 'fail'),
        (dict(type='TensorboardVisBackend', save_dir='x'), 'takes no arguments'),
        ('Memory', 'a writer is written dict'),
    ],
)
def test_mistakes_get_a_sentence(tmp_path, config, sentence):
    with pytest.raises(ConfigError, match=sentence):
        build_writer(config, tmp_path)


def test_wandb_is_ours_and_others_are_mmengines(tmp_path):
    assert type(build_writer(dict(type='WandbVisBackend'), tmp_path)) is WandbWriter
    local = build_writer(dict(type='LocalVisBackend'), tmp_path)
    assert type(local).__module__ == 'mmengine.visualization.vis_backend'
    assert build_writer(dict(type='TensorboardVisBackend'), tmp_path) is None


@pytest.mark.long
def test_wandb_offline_gets_everything(tiny, tmp_path, monkeypatch):
    pytest.importorskip('wandb')
    monkeypatch.setenv('WANDB_SILENT', 'true')
    settings = tiny(
        data=DATA,
        writers=[dict(type='WandbVisBackend', init_kwargs=dict(mode='offline', project='zoo'))],
        online_eval=dict(every=1),
        epochs=1,
    )
    build_trainer(settings, tmp_path).fit()
    assert 'warning: writer' not in (tmp_path / 'train.log').read_text()
    [file] = tmp_path.glob('writers/WandbVisBackend/wandb/offline-run-*/*.wandb')
    content = file.read_bytes()
    for text in (b'train/loss', b'val/knn', b'test/knn_top1', b'hidden_dim', b'media/images/views'):
        assert text in content, text
    assert list(file.parent.glob('files/media/images/*.png'))
    assert not list(file.parent.glob('files/code/**/*.py'))  # the user's folder is not uploaded


@pytest.mark.long
def test_mlflow_in_a_folder_gets_everything(tiny, tmp_path, monkeypatch):
    mlflow = pytest.importorskip('mlflow')
    monkeypatch.setenv('MLFLOW_ALLOW_FILE_STORE', 'true')
    uri = (tmp_path / 'mlruns').as_uri()
    settings = tiny(
        data=DATA,
        writers=[dict(type='MLflowVisBackend', exp_name='zoo', save_dir=str(tmp_path / 'mlruns'))],
        online_eval=dict(every=1),
        epochs=1,
    )
    trainer = build_trainer(settings, tmp_path / 'run')
    trainer.fit()
    assert 'warning: writer' not in (tmp_path / 'run/train.log').read_text()
    client = mlflow.MlflowClient(uri)
    [run] = client.search_runs([client.get_experiment_by_name('zoo').experiment_id])
    assert run.info.status == 'FINISHED' and run.data.params['method.hidden_dim'] == '32'
    assert {'train/loss', 'val/knn', 'test/knn_top1', 'epoch'} <= run.data.metrics.keys()
    names = [item.path for item in client.list_artifacts(run.info.run_id)]
    assert 'config.py' in names and any(name.startswith('views') for name in names)
