"""The part of a report that it takes to run a study again: commands, settings, hashes, versions."""

import json

from ssl_zoo.evaluation.results import rows_of
from ssl_zoo.reports import html
from ssl_zoo.reports.study.tables import Table
from ssl_zoo.studies.results import StudyResults


def flat(value, name: str = '') -> dict[str, str]:
    """Nested settings as 'a.b.0' -> JSON text."""
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else None
    )
    if not items:
        return {name: json.dumps(value)}
    return {
        key: text
        for part, inner in items
        for key, text in flat(inner, f'{name}.{part}' if name else str(part)).items()
    }


def shared_and_own(configs: list[dict[str, str]]) -> tuple[dict[str, str], list[dict[str, str]]]:
    """What all flat configs say alike, and what each says apart from that."""
    first = configs[0] if configs else {}
    shared = {
        key: text
        for key, text in first.items()
        if all(config.get(key) == text for config in configs)
    }
    return shared, [
        {key: text for key, text in config.items() if key not in shared} for config in configs
    ]


def settings(study: StudyResults) -> str:
    """The settings of the runs as they were trained: what all share, and what each arm has of its own."""
    arms = [
        (
            arm,
            [
                flat(run['config'])
                for run in arm.runs.values()
                if isinstance(run.get('config'), dict)
            ],
        )
        for arm in study.trained
    ]
    arms = [(arm, configs) for arm, configs in arms if configs]
    if not arms:
        return '<p>No run has recorded its settings yet.</p>\n'
    same = [
        shared_and_own(
            [{key: text for key, text in config.items() if key != 'seed'} for config in configs]
        )
        for _, configs in arms
    ]
    shared, own = shared_and_own([alike for alike, _ in same])
    parts = [
        html.details(
            f'Settings that all runs share ({len(shared)}), as they were trained',
            html.preformatted(_lines(shared)),
        )
    ]
    inside = ''
    for (arm, _), alone, (_, differing) in zip(arms, own, same, strict=True):
        between = [
            f'seed {seed}: {key} = {text}'
            for seed, rest in zip(arm.runs, differing, strict=False)
            for key, text in rest.items()
        ]
        text = '\n'.join([_lines(alone), *between]).strip()
        inside += f'<h3>{html.escape(arm.name)}</h3>\n' + html.preformatted(
            text or 'nothing of its own'
        )
    return ''.join(parts) + html.details('Settings that differ, arm by arm', inside)


def _lines(config: dict[str, str]) -> str:
    return '\n'.join(f'{key} = {text}' for key, text in config.items())


def checkpoint_hash(run: dict) -> str:
    """As its record, or one of its evaluations, has noted it."""
    if run.get('checkpoint_sha256'):
        return str(run['checkpoint_sha256'])
    try:
        found = [
            str(row['checkpoint_sha256'])
            for row in rows_of(run['folder'] / 'results.jsonl')
            if row.get('checkpoint_sha256')
        ]
    except OSError:
        return ''
    return found[-1] if found else ''


def runs_table(study: StudyResults) -> Table:
    """A row for each run that is done."""
    rows = [
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
        for arm in study.arms
        for seed, run in arm.runs.items()
    ]
    return Table(
        'Runs',
        'Folders are in that of the study, checkpoints in that of the run. SHA-256 of the checkpoint (first 16 digits) '
        'and manifest of the test images, as the evaluations noted them. Figures and costs of each run: runs.csv.',
        ['arm', 'seed', 'folder', 'checkpoint', 'SHA-256', 'test images', 'n', 'device', 'options'],
        rows,
    )


def how_to_run(study: StudyResults) -> str:
    plan = study.plan
    methods = Table(
        'Methods',
        '',
        ['method', 'config', 'options'],
        [
            [name, str(entry.get('config', '')), ' '.join(map(str, entry.get('options') or []))]
            for name, entry in plan['methods'].items()
        ],
    )
    versions = ', '.join(
        f'{name} {version}' for name, version in (plan.get('versions') or {}).items()
    )
    recipe = ' '.join(map(str, [*(plan.get('recipe') or []), *(plan.get('changes') or [])]))
    source = (
        html.details(f'The study, {plan.get("file")}', html.preformatted(str(plan['source'])))
        if plan.get('source')
        else ''
    )
    return ''.join(
        [
            '<p>All of it (a study that was stopped goes on):</p>\n',
            html.preformatted(str(plan.get('command') or 'the command is not recorded')),
            '<p>The recipe, options on top of every config:</p>\n',
            html.preformatted(recipe or 'none'),
            methods.as_html(),
            source,
            settings(study),
            html.details('Every run, with hashes', runs_table(study).as_html()),
            html.details(
                'study.json', html.preformatted(json.dumps(plan, indent=1, ensure_ascii=False))
            ),
            f'<p>Machine: {html.escape(str(plan.get("machine") or "not recorded"))}. '
            f'Versions: {html.escape(versions or "not recorded")}.</p>\n',
        ]
    )
