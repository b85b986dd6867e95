"""The jobs of tools/train_all.py: several configs, each with its own recipe, on several seeds."""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

from ssl_zoo.checkpoint import checkpoints_in
from ssl_zoo.config.loading import load_config
from ssl_zoo.config.settings import Settings
from ssl_zoo.errors import ConfigError
from ssl_zoo.evaluation.results import rows_of
from ssl_zoo.printable import one_line
from ssl_zoo.studies.records import is_number
from ssl_zoo.studies.results import DATA_PARTS, differing_data

COLUMNS = (
    'config',
    'method',
    'k-NN',
    'random weights',
    '2 labels per class',
    'seconds',
    'feature_std',
    'RankMe',
    'seeds',
)


@dataclass(frozen=True)
class ConfigRun:
    """A training run of a config with a seed.

    Attributes:
        config: path of the config.
        seed: seed of the run.
        folder: work directory of the run.
        options: changes to the config.
    """

    config: str
    seed: int
    folder: Path
    options: tuple[str, ...] = ()
    kind: str = 'run'
    needs: tuple[Path, ...] = ()

    @property
    def label(self) -> str:
        """Name for people."""
        return f'{config_name(self.config)}  seed {self.seed}'

    def settings(self) -> Settings:
        """Return the settings of the run.

        Raises:
            ConfigError: an option or the config has a mistake.
        """
        return load_config(self.config, [*self.options, f'seed={self.seed}'])

    def is_done(self) -> bool:
        """Return whether the run has ended and left results.

        Raises:
            ConfigError: the config has a mistake, or the folder holds results of other settings.
        """
        settings = self.settings()
        result = read_result(self.folder)
        if result is None:
            return False
        # Settings pass through JSON, because the results file holds lists where they have tuples.
        config = json.loads(json.dumps(settings.to_builtin()))
        if config['method'].get('base_ema') == 'auto':  # the run has put a number in its place
            config['method']['base_ema'] = result['config']['method'].get('base_ema')
        if result['config'] != config:
            raise ConfigError(
                f'{self.folder} holds a finished run with other settings; choose another --out, '
                'or remove it'
            )
        return True


class ConfigRuns:
    """Runs for a ``Scheduler``.

    Args:
        runs: in the order in which they should start.
    """

    def __init__(self, runs: list[ConfigRun]) -> None:
        self.runs = runs

    def __iter__(self) -> Iterator[ConfigRun]:
        return iter(self.runs)

    def __len__(self) -> int:
        return len(self.runs)

    def prepare(self, run: ConfigRun) -> None:
        """Write nothing: the command holds all that the run needs."""

    def command(self, run: ConfigRun) -> list[str]:
        """Return the command that trains; it continues from the last checkpoint if there is one."""
        command = [sys.executable, '-m', 'ssl_zoo', 'train', run.config]
        command += ['--work-dir', str(run.folder), '--seed', str(run.seed)]
        if checkpoints_in(run.folder):
            command.append('--resume')
        if run.options:
            command += ['--cfg-options', *run.options]
        return command

    def record(self, run: ConfigRun) -> dict | None:
        """Return the record of a run that is already finished; None for the others."""
        return self.finished_record(run, exit_code=0)

    def finished_record(self, run: ConfigRun, exit_code: int) -> dict | None:
        """Return the record of a run that has left results; None if it has not."""
        result = read_result(run.folder)
        if exit_code != 0 or result is None:
            return None
        return dict(status='done', error=None, label=run.label, result=result)

    def failed_record(self, run: ConfigRun, error: str, write: bool = True) -> dict:
        """Return the record of a run that failed. The record is not saved: a later call retries."""
        return dict(status='failed', error=error, label=run.label)

    def describe_record(self, record: dict) -> str:
        """Return the k-NN accuracies of a finished run."""
        result = record['result']
        return f'k-NN {result["k-NN"]:.2f} % (random weights {result["random weights"]:.2f} %)'


def config_name(config: str) -> str:
    """Return the folder and the file name of a config, such as 'byol/digits.py'."""
    path = Path(config).absolute()
    return f'{path.parent.name}/{path.name}'


def run_folder(out: Path, config: str, seed: int) -> Path:
    """Return the work directory of a run, such as out/byol_digits/seed_0."""
    name = config_name(config).removesuffix('.py').replace('/', '_')
    return out / name / f'seed_{seed}'


def read_result(folder: Path) -> dict | None:
    """Return the figures of a finished run, with the settings of the run under 'config'.

    Args:
        folder: work directory of the run.

    Returns:
        None if a figure is missing, because the run is not finished or the line of the figure is
        damaged. Other damaged lines do not count.
    """
    try:
        rows = rows_of(folder / 'results.jsonl')
        # Rows with a checkpoint hash come from evaluations after the training.
        rows = [row for row in rows if 'metric' in row and 'checkpoint_sha256' not in row]
        log = rows_of(folder / 'log.jsonl')
        values = {(row.get('metric'), row.get('weights')): row.get('value') for row in rows}
        # Without online evaluation no row has a feature std.
        evaluated = [row for row in log if 'val/feature_std' in row]
        last = evaluated[-1] if evaluated else {}
        figures = {
            'k-NN': values['knn_top1', 'trained'],
            'random weights': values['knn_top1', 'random weights'],
            '2 labels per class': values['probe_2_per_class_top1', 'trained'],
            'seconds': rows[-1]['seconds'],
        }
        if not all(map(is_number, figures.values())):
            return None
        return {
            **figures,
            'method': str(rows[-1]['config']['method']['type']),
            'feature_std': _number_or_none(last.get('val/feature_std')),
            'RankMe': _number_or_none(last.get('val/rankme')),
            'config': rows[-1]['config'],
            'data': {part: _text_or_none(rows[-1].get(f'{part}_data')) for part in DATA_PARTS},
        }
    except (OSError, IndexError, KeyError, TypeError):
        return None


def _number_or_none(value: object) -> object:
    return value if is_number(value) else None


def _text_or_none(value: object) -> str | None:
    return value if isinstance(value, str) else None


def results_table(configs: list[str], seeds: list[int], out: Path) -> str:
    """Return a Markdown table with a row for each config that has finished runs.

    The best k-NN accuracy comes first. Figures are means over seeds, accuracies with the sample
    standard deviation. A run with other images than the other seeds is left out, and a line below
    the table says so.

    Args:
        configs: paths of the configs.
        seeds: seeds of each config.
        out: folder of all runs.
    """
    rows = []
    notes = []
    for config in configs:
        results = {seed: read_result(run_folder(out, config, seed)) for seed in seeds}
        results = {seed: result for seed, result in results.items() if result is not None}
        differing = differing_data(list(results.values()))
        compared = []
        for (seed, result), parts in zip(results.items(), differing, strict=True):
            if not parts:
                compared.append(result)
                continue
            notes.append(
                f'{_cell(config_name(config))}, seed {seed}: its {" and ".join(parts)} '
                'images are not those of the other seeds; it is left out'
            )
        if compared:
            best_first = -mean(result['k-NN'] for result in compared)
            rows.append((best_first, _table_row(config, compared)))
    head = ['| ' + ' | '.join(COLUMNS) + ' |', '|' + '---|' * len(COLUMNS)]
    table = head + [line for _, line in sorted(rows)]
    return '\n'.join([*table, *(f'\n{note}' for note in notes)])


def _cell(text: str) -> str:
    """Return text that cannot end a cell of a Markdown table, nor start an HTML tag."""
    return one_line(text).replace('|', '\\|').replace('<', '&lt;')


def _table_row(config: str, results: list[dict]) -> str:
    cells = [_cell(config_name(config)), _cell(results[0]['method'])]
    for key in ('k-NN', 'random weights', '2 labels per class'):
        values = [result[key] for result in results]
        deviation = f' ({stdev(values):.2f})' if len(values) > 1 else ''
        cells.append(f'{mean(values):.2f} %{deviation}')
    cells.append(f'{mean(result["seconds"] for result in results):.0f}')
    for key, digits in (('feature_std', 2), ('RankMe', 0)):
        values = [result[key] for result in results]
        cells.append('' if None in values else f'{mean(values):.{digits}f}')
    cells.append(str(len(results)))
    return f'| {" | ".join(cells)} |'
