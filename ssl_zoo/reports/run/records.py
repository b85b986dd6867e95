"""Read the work directory of a run: config, log, results, versions, commands, checkpoints.

Everything is data: config.py is parsed as literals and never executed, and other files go through
``ssl_zoo.storage.reading``. A file that is missing or damaged is named in ``problems``.
"""

import ast
import json
import os
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ssl_zoo.checkpoint import checkpoints_in, newest_checkpoint
from ssl_zoo.errors import ConfigError
from ssl_zoo.evaluation.results import ROWS_BYTES, rows_of
from ssl_zoo.printable import one_line, printable
from ssl_zoo.reports.leaderboard_rows import ResultRow, read_rows
from ssl_zoo.storage.reading import parse_json, read_regular

RUN_FILES = ('log.jsonl', 'results.jsonl', 'config.py')
LOG_LINE = re.compile(r'(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)  (.*)')
MAX_WARNINGS = 20  # different warnings of train.log on the page


@dataclass
class RunRecords:
    """What a run has written.

    Attributes:
        folder: the work directory.
        log: rows of log.jsonl.
        rows: the rows of results.jsonl that hold a result.
        config: the config as nested plain values; empty if nothing has recorded one.
        config_text: text of config.py, '' if there is none.
        versions: versions of libraries, platform and device by name.
        commands: commands that started and continued the run, oldest first.
        log_lines: (time, text) of each line of train.log.
        problems: a sentence for each file that is missing or damaged.
    """

    folder: Path
    log: list[dict]
    rows: list[ResultRow]
    config: dict[str, Any] = field(default_factory=dict)
    config_text: str = ''
    versions: dict[str, str] = field(default_factory=dict)
    commands: list[str] = field(default_factory=list)
    log_lines: list[tuple[str, str]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, run: str | Path) -> 'RunRecords':
        """Read a work directory.

        Raises:
            ConfigError: it does not exist, or no run has written there.
        """
        folder = Path(run)
        _check_is_run(folder)
        problems: list[str] = []
        rows: list[ResultRow] = []
        damaged: list[str] = []
        if os.path.lexists(folder / 'results.jsonl'):
            rows, damaged = read_rows([folder / 'results.jsonl'])
        problems += [f'a result is left out: {text}' for text in damaged]
        records = cls(folder, _log_rows(folder, problems), rows, problems=problems)
        records.config_text = records._text('config.py')
        records.versions = records._versions()
        records.commands = records._text('command.txt').splitlines()
        records.log_lines = _log_lines(records._text('train.log', ROWS_BYTES))
        records.config = records._config()
        return records

    def _text(self, name: str, limit: int = 2**24) -> str:
        """Return the printable text of a file; '' and a problem if it cannot be read."""
        try:
            return printable(read_regular(self.folder / name, limit).decode(errors='replace'))
        except OSError as error:
            self.problems.append(f'{name} cannot be read: {error.strerror or error}')
            return ''

    def _versions(self) -> dict[str, str]:
        text = self._text('versions.json')
        try:
            value = parse_json(text) if text else {}
        except ValueError as error:
            self.problems.append(f'versions.json cannot be read: {error}')
            return {}
        if not isinstance(value, dict):
            self.problems.append('versions.json holds no names with versions')
            return {}
        return {key: one_line(str(item)) for key, item in value.items()}

    def _config(self) -> dict[str, Any]:
        """Return the config: of config.py, or else of the newest row, or of the checkpoint."""
        config = _plain(_literals(self.config_text))
        if config is None:
            self.problems.append('config.py is no list of plain values and is shown as text alone')
        if not config:
            of_rows = [row.get('config', kind=dict) for row in self.rows]
            config = next((c for c in reversed(of_rows) if c), None)
        if not config and self.checkpoint is not None:
            config = _plain(self.checkpoint['config'])
        return config or {}

    @cached_property
    def checkpoint(self) -> dict | None:
        """Items of the newest checkpoint that can be read, without its tensors; None for none.

        'path', 'step', 'config', and of newer formats 'seconds' and 'images'.
        """
        if not checkpoints_in(self.folder):
            return None
        try:
            content = newest_checkpoint(self.folder, self.problems.append)
        except ConfigError as error:
            self.problems.append(str(error))
            return None
        kept = ('path', 'step', 'config', 'seconds', 'images')
        return {key: content[key] for key in kept if key in content}

    @property
    def step(self) -> int:
        """The last optimizer step that the log, a result or the checkpoint knows."""
        steps = [row.get('step') for row in [*self.log, *(row.fields for row in self.rows)]]
        if self.checkpoint is not None:
            steps.append(self.checkpoint['step'])
        return max((step for step in steps if isinstance(step, int)), default=0)

    @property
    def warnings(self) -> list[str]:
        """The warnings that the results carry, each once."""
        found = []
        for row in self.rows:
            texts = row.get('warnings', kind=list) or []
            found += [one_line(text) for text in texts if isinstance(text, str)]
        return list(dict.fromkeys(found))

    @property
    def log_warnings(self) -> list[str]:
        """The first warnings of train.log that no result carries, each once, at most 20."""
        texts = [text for _, text in self.log_lines if text.startswith('warning: ')]
        found = dict.fromkeys(text.removeprefix('warning: ') for text in texts)
        return [text for text in found if text not in self.warnings][:MAX_WARNINGS]

    def setting(self, *keys: str) -> Any:
        """Return a nested value of the config, None if there is none."""
        value: Any = self.config
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        return value

    @property
    def batch_size(self) -> int | None:
        """Images of an optimizer step, None if the config does not say."""
        batch = self.setting('batch_size')
        is_size = isinstance(batch, int) and not isinstance(batch, bool) and batch > 0
        return batch if is_size else None

    @property
    def images(self) -> int | None:
        """Number of training images, None if no checkpoint says."""
        return (self.checkpoint or {}).get('images')

    def epoch_of(self, step: int) -> float | None:
        """Return the epochs done after a step; None if batch size or images are not known."""
        if self.batch_size is None or not self.images:
            return None
        return step * self.batch_size / self.images


def _check_is_run(folder: Path) -> None:
    if not os.path.isdir(folder):
        raise ConfigError(
            f'there is no run at {folder.absolute()}; give the work directory of a run, such as '
            f'work_dirs/byol_digits/20260101-120000'
        )
    found = [name for name in RUN_FILES if os.path.lexists(folder / name)]
    if not found and not checkpoints_in(folder):
        raise ConfigError(
            f'{folder} is no work directory of a run: it has none of {", ".join(RUN_FILES)} and '
            f'no checkpoints; give the folder that a training has written'
        )


def _log_rows(folder: Path, problems: list[str]) -> list[dict]:
    try:
        return rows_of(folder / 'log.jsonl')
    except OSError as error:
        problems.append(f'log.jsonl cannot be read: {error.strerror or error}')
        return []


def _log_lines(text: str) -> list[tuple[str, str]]:
    matches = map(LOG_LINE.fullmatch, text.splitlines())
    return [(match[1], match[2]) for match in matches if match]


def _literals(text: str) -> dict[str, Any] | None:
    """Return the assignments of a config that a run has written, without executing it.

    Returns:
        name -> value; None if the text has anything but assignments of plain values and of
        ``dict(...)`` of such.
    """
    try:
        statements = ast.parse(text).body
        return {
            statement.targets[0].id: _literal(statement.value)  # type: ignore[attr-defined]
            for statement in statements
        }
    except (SyntaxError, TypeError, ValueError, AttributeError, RecursionError, MemoryError):
        return None


def _plain(config: dict | None) -> dict[str, Any] | None:
    """Return a config as values of JSON, checked as those of a file; None if it has others."""
    try:
        value = parse_json(json.dumps(config))
    except (TypeError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _literal(node: ast.expr) -> Any:
    """Return the value of an expression. Raises ValueError for all but plain values."""
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_literal(item) for item in node.elts]
    if isinstance(node, ast.Call):
        is_dict = isinstance(node.func, ast.Name) and node.func.id == 'dict' and not node.args
        if not is_dict or not all(keyword.arg for keyword in node.keywords):
            raise ValueError('a call of something else than dict')
        return {keyword.arg: _literal(keyword.value) for keyword in node.keywords}
    if isinstance(node, ast.Dict):
        keys = [ast.literal_eval(key) for key in node.keys if key is not None]
        return dict(zip(keys, map(_literal, node.values), strict=True))
    return ast.literal_eval(node)
