"""The part of a report that reproduces a study: commands, settings, hashes, versions."""

import json

from ssl_zoo.evaluation.results import rows_of
from ssl_zoo.reports import html
from ssl_zoo.reports.study.text_table import TextTable
from ssl_zoo.studies.results import ArmResults, StudyResults

FlatConfig = dict[str, str]  # 'a.b.0' -> JSON text


def flatten(value: object, name: str = '') -> FlatConfig:
    """Return nested settings as dotted name -> JSON text; empty dicts and lists count as values."""
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    else:
        items = []
    if not items:
        return {name: json.dumps(value)}
    flat: dict[str, str] = {}
    for key, item in items:
        flat |= flatten(item, f'{name}.{key}' if name else str(key))
    return flat


def split_shared(configs: list[FlatConfig]) -> tuple[FlatConfig, list[FlatConfig]]:
    """Return the settings that all configs share, and the other settings of each config."""
    if not configs:
        return {}, []
    shared = {
        key: text
        for key, text in configs[0].items()
        if all(config.get(key) == text for config in configs)
    }
    rests = [{key: text for key, text in config.items() if key not in shared} for config in configs]
    return shared, rests


def settings_html(study: StudyResults) -> str:
    """Return the recorded settings of the runs: the shared settings, then the others by arm."""
    arms = [arm for arm in study.trained if _configs(arm)]
    if not arms:
        return '<p>No run has recorded its settings yet.</p>\n'
    splits = [split_shared(list(_configs(arm).values())) for arm in arms]
    shared, arm_settings = split_shared([shared_by_seeds for shared_by_seeds, _ in splits])
    differing = ''
    for arm, settings, (_, seed_rests) in zip(arms, arm_settings, splits, strict=True):
        lines = _lines(settings)
        for seed, rest in zip(_configs(arm), seed_rests, strict=True):
            lines += [f'seed {seed}: {line}' for line in _lines(rest)]
        text = '\n'.join(lines) or 'no setting differs'
        differing += f'<h3>{html.escape(arm.name)}</h3>\n{html.preformatted(text)}'
    title = f'Settings that all runs share ({len(shared)}), as they were trained'
    shared_html = html.details(title, html.preformatted('\n'.join(_lines(shared))))
    return shared_html + html.details('Settings that differ, arm by arm', differing)


def _configs(arm: ArmResults) -> dict[int, FlatConfig]:
    """Return the recorded settings of an arm's runs by seed, without the seed itself."""
    configs = {}
    for seed, run in arm.runs.items():
        if isinstance(run.get('config'), dict):
            flat = flatten(run['config'])
            flat.pop('seed', None)
            configs[seed] = flat
    return configs


def _lines(config: FlatConfig) -> list[str]:
    return [f'{key} = {text}' for key, text in config.items()]


def checkpoint_hash(run: dict) -> str:
    """Return the SHA-256 of a run's checkpoint from its records; '' if there is none."""
    if run.get('checkpoint_sha256'):
        return str(run['checkpoint_sha256'])
    try:
        rows = rows_of(run['folder'] / 'results.jsonl')
    except OSError:
        return ''
    hashes = [str(row['checkpoint_sha256']) for row in rows if row.get('checkpoint_sha256')]
    return hashes[-1] if hashes else ''


def runs_table(study: StudyResults) -> TextTable:
    """Return a row for each finished run."""
    rows = []
    for arm in study.arms:
        for seed, run in arm.runs.items():
            rows.append(
                [
                    arm.name,
                    str(seed),
                    run['folder'].relative_to(study.out).as_posix(),
                    str(run.get('checkpoint') or ''),
                    checkpoint_hash(run)[:16],
                    str(run.get('test_manifest') or ''),
                    str(run.get('n_test') or ''),
                    str((run.get('cost') or {}).get('device') or ''),
                    ' '.join(map(str, run.get('options') or [])),
                ]
            )
    note = (
        'Folders are relative to the folder of the study, checkpoints to the folder of the run. '
        'SHA-256 of the checkpoint (first 16 digits) and manifest of the test images: as the '
        'evaluations recorded them. Figures and costs of each run: runs.csv.'
    )
    head = ['arm', 'seed', 'folder', 'checkpoint', 'SHA-256', 'test images', 'n', 'device']
    return TextTable('Runs', note, [*head, 'options'], rows)


def methods_table(study: StudyResults) -> TextTable:
    """Return a row for each method: config and options."""
    rows = []
    for name, method in study.definition['methods'].items():
        options = ' '.join(map(str, method.get('options') or []))
        rows.append([name, str(method.get('config', '')), options])
    return TextTable('Methods', '', ['method', 'config', 'options'], rows)


def reproduce_html(study: StudyResults) -> str:
    """Return commands, settings, hashes and versions."""
    definition = study.definition
    command = str(definition.get('command') or 'the command is not recorded')
    recipe = [*(definition.get('recipe') or []), *(definition.get('changes') or [])]
    definition_text = json.dumps(definition, indent=1, ensure_ascii=False)
    machine = str(definition.get('machine') or 'not recorded')
    versions = definition.get('versions') or {}
    version_list = ', '.join(f'{name} {version}' for name, version in versions.items())
    parts = [
        '<p>The whole study; a study that was stopped goes on:</p>\n',
        html.preformatted(command),
        '<p>The recipe: options of all configs:</p>\n',
        html.preformatted(' '.join(map(str, recipe)) or 'none'),
        methods_table(study).as_html(),
    ]
    if definition.get('source'):
        title = f'The study, {definition.get("file")}'
        parts.append(html.details(title, html.preformatted(str(definition['source']))))
    parts += [
        settings_html(study),
        html.details('Every run, with hashes', runs_table(study).as_html()),
        html.details('study.json', html.preformatted(definition_text)),
        f'<p>Machine: {html.escape(machine)}. '
        f'Versions: {html.escape(version_list or "not recorded")}.</p>\n',
    ]
    return ''.join(parts)
