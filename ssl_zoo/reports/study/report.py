"""The report of a study: one page that needs no network, tables as Markdown and CSV, figures as files."""

from pathlib import Path

from ssl_zoo.reports import html
from ssl_zoo.reports.study.report_figures import Cards
from ssl_zoo.reports.study.reproduce import how_to_run
from ssl_zoo.reports.study.tables import (
    Table,
    accuracy_table,
    arms_csv,
    difference_table,
    in_markdown,
    runs_csv,
    tuning_table,
)
from ssl_zoo.storage.atomic import write_or_raise
from ssl_zoo.studies.results import ArmResults, StudyResults, read_study
from ssl_zoo.studies.tuning_results import tuning_results


def write_report(out: str | Path) -> Path:
    """Write ``out/report/``: index.html, table.md, table.csv (arms), runs.csv, figures. An unfinished study gets a report of what is there.

    Args:
        out: the folder of a study.
    Returns:
        The path of the html.
    Raises:
        ConfigError: there is no study in the folder, or the report cannot be written.
    """
    study, folder = read_study(out), Path(out, 'report')
    body = page_of(study, Cards(study, folder))
    texts = {
        'table.md': markdown(study),
        'table.csv': arms_csv(study),
        'runs.csv': runs_csv(study),
        'index.html': html.page(study.plan['title'], body),
    }
    for name, text in texts.items():
        write_or_raise(folder / name, lambda file, text=text: file.write(text.encode()))
    return folder / 'index.html'


def tables(study: StudyResults) -> list[Table | None]:
    """Of accuracy, of differences to the reference, to the first labels, of tuning; None for what the study does not have."""
    return [
        accuracy_table(study),
        difference_table(study),
        difference_table(study, to_baseline=True),
        tuning_table(study),
    ]


def markdown(study: StudyResults) -> str:
    parts = [
        f'## {in_markdown(study.plan["title"])}\n',
        in_markdown(str(study.plan.get('question', ''))) + '\n',
    ]
    if study.plan['caveats']:
        parts += [*(f'- {in_markdown(text)}' for text in study.plan['caveats']), '']
    parts += [table.as_markdown() for table in tables(study) if table]
    if left := unfinished(study):
        parts += [
            '### Failed, missing or doubtful\n',
            *(f'- {in_markdown(text)}' for text in left),
            '',
        ]
    return '\n'.join(parts)


def unfinished(study: StudyResults) -> list[str]:
    """Sentences on what failed, is missing or is in doubt."""
    failed = [
        f'{name_of(record)} failed: {record.get("error") or "no error is recorded"}'
        for record in study.failures
    ]
    warned = [
        f'tuning of {tuning.name}: {tuning.warning}'
        for tuning in tuning_results(study)
        if tuning.warning
    ]
    return failed + study.problems + study.missing + warned


def name_of(record: dict) -> str:
    name = ArmResults(str(record.get('method')), record.get('axes') or {}).name
    return (
        f'trial of {name}, factor {record.get("factor")}'
        if record['kind'] == 'trial'
        else f'{name}, seed {record.get("seed")}'
    )


def page_of(study: StudyResults, cards: Cards) -> str:
    """The page's body; its figures are drawn and saved on the way."""
    plan, (accuracy, to_reference, to_baseline, tuning) = study.plan, tables(study)
    results = html.figure_grid(cards.accuracy()) or '<p>No run is finished yet.</p>\n'
    parts = [
        (
            'Results',
            'results',
            results + ''.join(table.as_html() for table in (accuracy, to_reference) if table),
        ),
        (
            'Along the axes',
            'axes',
            html.figure_grid(cards.axes()) + to_baseline.as_html() if to_baseline else '',
        ),
        ('Accuracy against cost', 'cost', html.figure_grid(cards.cost())),
        ('Tuning', 'tuning', html.figure_grid(cards.tuning()) + tuning.as_html() if tuning else ''),
        ('Curves', 'curves', html.figure_grid(cards.courses())),
        ('Method by method', 'methods', method_by_method(study, cards)),
        ('To run it again', 'again', how_to_run(study)),
    ]
    left = unfinished(study)  # after the figures, which may find more
    if left:
        parts.insert(1, ('Failed, missing or doubtful', 'missing', html.bullets(left)))
    parts = [part for part in parts if part[2]]
    links = ''.join(f'<a href="#{anchor}">{html.escape(title)}</a> ' for title, anchor, _ in parts)
    head = f'<h1>{html.escape(plan["title"])}</h1>\n{html.paragraphs(str(plan.get("question", "")))}<nav>{links}</nav>\n'
    if plan['caveats']:
        head += f'<div class="box"><strong>What this can and cannot show</strong>\n{html.bullets(plan["caveats"])}</div>\n'
    return head + state(study, left) + ''.join(html.section(*part) for part in parts)


def state(study: StudyResults, left: list[str]) -> str:
    """How much of the study there is."""
    done, wanted = (
        sum(len(arm.runs) for arm in study.trained),
        len(study.trained) * len(study.plan['seeds']),
    )
    failed = sum(record['kind'] == 'run' for record in study.failures)
    text = f'{done} of {wanted} runs are finished' + (f', {failed} failed' if failed else '') + '.'
    if not left:
        return f'<p>{text}</p>\n'
    return f'<div class="box warning">{text} <a href="#missing">What failed, is missing or is in doubt ({len(left)})</a></div>\n'


def method_by_method(study: StudyResults, cards: Cards) -> str:
    names = [arm.method for arm in study.arms if not arm.trained] + [
        arm.method for arm in study.trained
    ]
    blocks = [(name, found) for name in dict.fromkeys(names) if (found := cards.of_method(name))]
    if not blocks:
        return ''
    note = (
        'Curves: means over seeds thick, seeds thin; losses of different methods are different quantities. Views: the first training '
        'images, each beside what the network is shown of it. Map and neighbours: test images by the features of the backbone, first '
        'seed; the images with neighbours are the first of their class in the list, chosen by none.'
    )
    return f'<p class="note">{note}</p>\n' + ''.join(
        f'<h3>{html.escape(name)}</h3>\n{html.figure_grid(found)}' for name, found in blocks
    )
