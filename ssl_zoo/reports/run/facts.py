"""The facts of a run: what was trained, how, on what, for how long, and how to run it again."""

import shlex
from typing import Any

from ssl_zoo.printable import one_line
from ssl_zoo.reports import html
from ssl_zoo.reports.html import Cell, Column, Row, Table
from ssl_zoo.reports.run.records import RunRecords
from ssl_zoo.studies.records import is_number

NOT_RECORDED = 'not recorded'


def method_name(records: RunRecords) -> str:
    """Return the type of the method, 'run' if the config does not say."""
    name = records.setting('method', 'type')
    return name if isinstance(name, str) else 'run'


def facts_html(records: RunRecords) -> str:
    """Return the table of facts and the boxes of warnings."""
    rows = [
        Row([Cell(html.escape(name)), Cell(html.escape(text or NOT_RECORDED), css_class='wrap')])
        for name, text in facts(records).items()
    ]
    table = Table([Column('fact'), Column('value')], rows, 'Facts of the run', row_headers=True)
    return _warnings_html(records) + table.as_html()


def facts(records: RunRecords) -> dict[str, str]:
    """Return the facts of a run as text by name, '' for what is not recorded."""
    setting = records.setting
    versions = dict(records.versions)
    device = versions.pop('device', '')
    times = [time for time, _ in records.log_lines]
    return {
        'method': _arguments(setting('method'), without=('backbone',)),
        'network': _arguments(setting('method', 'backbone')),
        'training images': _data(records),
        'hold-out': _arguments(setting('data', 'val')),
        'test images': _arguments(setting('data', 'test')),
        'epochs': _progress(records),
        'batch': _text(setting('batch_size')),
        'optimizer': _optimizer(records),
        'precision': _text(setting('precision')),
        'seed': _text(setting('seed')),
        'device': device,
        'versions': ', '.join(f'{name} {version}' for name, version in versions.items()),
        'commit': versions.get('commit', ''),
        'time': f'{times[0]} to {times[-1]}' if times else '',
        'folder': one_line(str(records.folder)),
    }


def _text(value: object) -> str:
    return '' if value is None else str(value)


def _arguments(value: Any, without: tuple[str, ...] = ()) -> str:
    """Return a dict of the config as text: its type or name first, then the other values."""
    if not isinstance(value, dict):
        return _text(value)
    items = {key: item for key, item in value.items() if key not in ('type', 'name', *without)}
    names = [str(value[key]) for key in ('type', 'name') if key in value]
    return ', '.join([*names, *(f'{key} {item}' for key, item in items.items())])


def _data(records: RunRecords) -> str:
    text = _arguments(records.setting('data', 'train'))
    return f'{text} ({records.images:,} images)' if records.images else text


def _progress(records: RunRecords) -> str:
    """Return the epochs of the config, and the steps done."""
    epochs = _text(records.setting('epochs'))
    done = records.epoch_of(records.step)
    if done is None:
        return f'{epochs or "?"}; {records.step:,} steps are done'
    text = f'{epochs}; {records.step:,} steps = {done:.4g} epochs are done'
    planned = records.setting('epochs')
    # A run ends at the last whole batch of its epochs.
    is_short = is_number(planned) and records.step < (
        int(planned * records.images) // records.batch_size
    )
    return text + (': the run is not finished' if is_short else '')


def _optimizer(records: RunRecords) -> str:
    """Return optimizer, learning rate, weight decay and warm-up."""
    parts = [_arguments(records.setting('optimizer'))]
    for key in ('base_lr', 'weight_decay', 'warmup_epochs'):
        if records.setting(key) is not None:
            parts.append(f'{key} {records.setting(key)}')
    return ', '.join(part for part in parts if part)


def _warnings_html(records: RunRecords) -> str:
    content = ''
    for title, texts in (
        ('Warnings that the results carry', records.warnings),
        ('Warnings of the training log', records.log_warnings),
    ):
        if texts:
            content += (
                f'<div class="box warning"><strong>{title}</strong>\n{html.bullets(texts)}</div>\n'
            )
    return content


def cost_html(records: RunRecords) -> str:
    """Return a table of steps, images seen, time and speed."""
    seen = records.step * records.batch_size if records.batch_size else None
    seconds = training_seconds(records)
    speeds = [
        row['train/images_per_second']
        for row in records.log
        if is_number(row.get('train/images_per_second'))
    ]
    figures = {
        'optimizer steps': f'{records.step:,}',
        'images seen (steps x batch)': NOT_RECORDED if seen is None else f'{seen:,}',
        'seconds of training': NOT_RECORDED if seconds is None else f'{seconds:,.1f}',
        'images per second, median of the log': (
            f'{sorted(speeds)[len(speeds) // 2]:,.1f}' if speeds else NOT_RECORDED
        ),
        'device': records.versions.get('device', NOT_RECORDED),
    }
    rows = [
        Row([Cell(html.escape(name)), Cell(html.escape(text), css_class='wrap')])
        for name, text in figures.items()
    ]
    table = Table([Column('quantity'), Column('value')], rows, 'Cost', row_headers=True)
    return table.as_html() + html.note(
        'Seconds of training include reading the images and online evaluations, without start-up. '
        'A run that was continued counts all its parts.'
    )


def training_seconds(records: RunRecords) -> float | None:
    """Return the seconds of training: of the results that training wrote, or of the checkpoint."""
    for row in reversed(records.rows):
        seconds = row.get('seconds', kind=(int, float))
        if seconds is not None and 'checkpoint_sha256' not in row.fields:
            return seconds
    return (records.checkpoint or {}).get('seconds')


def reproduce_html(records: RunRecords) -> str:
    """Return the commands that started the run, its config, and the command of this page."""
    if records.commands:
        content = html.paragraphs('The commands that started and continued the run:')
        content += html.preformatted('\n'.join(records.commands))
    else:
        content = html.paragraphs('The command that started the run is not recorded.')
    if records.config_text:
        content += html.details(
            'config.py, which runs it again with tools/train.py',
            html.preformatted(records.config_text),
        )
    content += html.paragraphs('This page:')
    return content + html.preformatted(
        f'ssl-zoo report {one_line(shlex.quote(str(records.folder)))}'
    )
