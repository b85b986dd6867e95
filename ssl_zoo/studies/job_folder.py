"""The folder of a job: its task, its intermediate results, its record."""

import time
from pathlib import Path

from ssl_zoo.errors import ConfigError
from ssl_zoo.studies.json_files import read_json, write_json


class JobFolder:
    """The files of a job: job.json (task), partial.json (progress) and record.json (end).

    Args:
        path: the folder.

    Attributes:
        task: content of job.json.
        progress: content of partial.json: 'seconds' of all attempts together, the 'figures'
            measured so far, and after the training 'cost' and 'config'.

    Raises:
        ConfigError: there is no job.json, or it is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        task = read_json(path / 'job.json')
        if task is None:
            raise ConfigError(f'{path} has no readable job.json; tools/study.py writes it')
        self.task: dict = task
        self.progress: dict = read_json(path / 'partial.json') or dict(seconds=0.0, figures={})
        self._last_save = time.perf_counter()

    def save_progress(self, **results: object) -> None:
        """Add results and the seconds since the last call to partial.json."""
        now = time.perf_counter()
        seconds = self.progress['seconds'] + now - self._last_save
        self.progress |= dict(results, seconds=seconds)
        self._last_save = now
        write_json(self.path / 'partial.json', self.progress)

    def write_record(self, **results: object) -> None:
        """Write record.json, which ends the job."""
        task = {key: self.task[key] for key in self.task['recorded']}
        write_json(self.path / 'record.json', dict(task, status='done', error=None, **results))
        (self.path / 'partial.json').unlink(missing_ok=True)
