"""Read the results rows of a leaderboard: files, lines, and the fields that rows share."""

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssl_zoo.errors import ConfigError
from ssl_zoo.evaluation.protocols.describe import describe_row
from ssl_zoo.evaluation.results import numbered_rows

# Keys of a config that do not change a result.
IGNORED_CONFIG_KEYS = (
    'seed',
    'workers',
    'log_every',
    'online_eval',
    'checkpoint',
    'parallel',
    'imports',
)
# Digests of the images: those that the network was trained on, those that the evaluation learnt
# from, the hold-out of its choices, and the test images.
DATA_FIELDS = ('train_data', 'bank_data', 'val_data', 'test_data', 'test_manifest')
# Fields of a row that are equal in all rows of one entry.
SHARED_FIELDS = (
    'metric',
    'protocol',
    'weights',
    'network',
    'layer',
    'test',
    *DATA_FIELDS,
    'n',
    'step',
    'preprocessing',
    'label_set',
    'labelled',
    'draw',
    'draws',
)


@dataclass(frozen=True)
class ResultRow:
    """A results row and its position in a file.

    Attributes:
        fields: the JSON object.
        path: path of the file.
        line: number of the line, from 1.
    """

    fields: dict
    path: Path
    line: int

    def get(self, *keys: str, kind: type | tuple[type, ...] = str) -> Any:
        """Return the nested field below ``keys``; None if it is missing or not of this kind."""
        value: Any = self.fields
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        return value if isinstance(value, kind) and not isinstance(value, bool) else None

    @property
    def is_label_free(self) -> bool:
        """Whether the value is no accuracy, but a measure that needs no labels."""
        return self.get('protocol', 'name') == 'label_free'

    def entry_key(self) -> str:
        """Return a key that all rows of one entry share: all compared fields except the seed."""
        return self._key({name: self.fields.get(name) for name in SHARED_FIELDS})

    def setting_key(self) -> str:
        """Return ``entry_key`` without the images and the numbers that follow from them."""
        shared = {name: self.fields.get(name) for name in SHARED_FIELDS}
        for name in (*DATA_FIELDS, 'n', 'step'):
            del shared[name]
        if isinstance(shared['protocol'], dict):
            protocol = shared['protocol'].items()
            shared['protocol'] = {k: v for k, v in protocol if k not in ('bank', 'holdout')}
        return self._key(shared)

    def _key(self, shared: dict) -> str:
        config = self.get('config', kind=dict) or {}
        compared = {k: v for k, v in config.items() if k not in IGNORED_CONFIG_KEYS}
        return json.dumps([shared, compared], sort_keys=True)

    def seeds(self) -> tuple:
        """Return (seed of the training, seed of the evaluation or None), which identifies a run.

        A row without a seed counts as a separate run, identified by its path and line.
        """
        training_seed = self.get('config', 'seed', kind=int)
        row_seed = self.get('seed', kind=int)
        if training_seed is None and row_seed is None:
            return str(self.path), self.line
        # Rows that training writes have no hash of the checkpoint, and their seed is the seed of
        # the training.
        evaluation_seed = row_seed if 'checkpoint_sha256' in self.fields else None
        return (row_seed if training_seed is None else training_seed), evaluation_seed


def find_files(paths: list[str]) -> list[Path]:
    """Return the given files, and every results.jsonl below the given folders, each once.

    Raises:
        ConfigError: a path does not exist, or is neither a regular file nor a folder.
    """
    files: dict[str, Path] = {}
    for name in paths:
        path = Path(name)
        if not os.path.exists(path):
            raise ConfigError(
                f'there is nothing at {path.absolute()}; give files results.jsonl, or folders that '
                f'hold such files, such as work_dirs'
            )
        if not path.is_file() and not path.is_dir():
            raise ConfigError(
                f'{path} is neither a regular file nor a folder; give files results.jsonl, or '
                f'folders that hold such files, such as work_dirs'
            )
        for file in [path] if path.is_file() else _results_below(path):
            files.setdefault(os.path.realpath(file), file)
    return list(files.values())


def _results_below(folder: Path) -> list[Path]:
    return sorted(
        Path(parent, 'results.jsonl')
        for parent, _, names in os.walk(folder)
        if 'results.jsonl' in names
    )


def read_rows(files: list[Path]) -> tuple[list[ResultRow], list[str]]:
    """Read the rows of files.

    Returns:
        rows: the rows that hold a result.
        damaged: a sentence for every other line that is not empty, and for every file that cannot
            be read.
    """
    rows = []
    damaged = []
    for path in files:
        try:
            for number, fields in numbered_rows(path):
                try:
                    rows.append(_checked_row(fields, path, number))
                except ValueError as error:
                    damaged.append(f'{path}, line {number}: {error}')
        except OSError as error:
            damaged.append(f'{path} cannot be read: {error.strerror or error}')
    return rows, damaged


def _checked_row(fields: dict | str, path: Path, line: int) -> ResultRow:
    """Return the row. Raises ValueError, or ConfigError, if it lacks a field that all rows have."""
    if isinstance(fields, str):
        raise ValueError(fields)
    row = ResultRow(fields, path, line)
    if not row.get('metric'):
        raise ValueError('no metric')
    value = row.get('value', kind=(int, float))
    if value is None or not math.isfinite(value):
        raise ValueError('no finite value')
    describe_row(fields)
    return row
