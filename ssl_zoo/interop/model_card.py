"""The model card of an exported backbone: only facts from its checkpoint and recorded results."""

import html
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from ssl_zoo import __version__
from ssl_zoo.checkpoint import read_checkpoint
from ssl_zoo.evaluation.features import Preprocessing
from ssl_zoo.evaluation.protocols.context import EvaluationContext
from ssl_zoo.evaluation.protocols.describe import describe_row
from ssl_zoo.evaluation.results import rows_of
from ssl_zoo.interop.foreign_checkpoint import as_steps
from ssl_zoo.printable import printable
from ssl_zoo.versions import versions

# Keys of a data set's config that name folders and files of the machine: a published card leaves
# them out.
PRIVATE_DATA_KEYS = ('root', 'path', 'shards', 'classes', 'list')
# Keys of the config that the section on training shows.
TRAINING_KEYS = (
    'optimizer',
    'epochs',
    'batch_size',
    'base_lr',
    'weight_decay',
    'warmup_epochs',
    'precision',
    'seed',
    'views',
)
EXPORT_PACKAGES = ('ssl_zoo', 'torch', 'torchvision', 'timm')
# Rows that agree in these keys measure the same quantity: the last row counts.
MEASUREMENT_KEYS = ('metric', 'protocol', 'test_manifest', 'n', 'weights')
NOT_RECORDED = 'not recorded'


def file_metadata(context: EvaluationContext, input_text: str) -> dict[str, str]:
    """Return the metadata inside an exported file, as text.

    Args:
        context: the checkpoint.
        input_text: the images that the network takes, with the dimensions that are fixed.
    """
    preprocessing = context.preprocessing
    return dict(
        written_by=f'ssl_zoo {__version__}',
        method=context.settings.method['type'],
        network=context.network,
        backbone=json.dumps(context.settings.to_builtin()['method'].get('backbone')),
        step=str(context.step),
        checkpoint_sha256=context.checkpoint_hash,
        input=input_text,
        preprocessing=json.dumps(
            dict(
                size=preprocessing.size,
                resize=preprocessing.resize,
                interpolation=preprocessing.interpolation,
                mean=preprocessing.mean,
                std=preprocessing.std,
            )
        ),
    )


def preprocessing_code(preprocessing: Preprocessing) -> tuple[str, ...]:
    """Return lines of Python that define ``transform``: RGB Pillow image -> input of the network.

    The input is the same as in evaluations.
    """
    interpolation = f'InterpolationMode.{preprocessing.interpolation.upper()}'
    resize = f'Resize({preprocessing.resize}, {interpolation})'
    crop = f'CenterCrop({preprocessing.size})'
    normalize = f'Normalize({[*preprocessing.mean]}, {[*preprocessing.std]})'
    return (
        'from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Normalize, '
        'Resize, ToTensor',
        f'transform = Compose([{resize}, {crop}, ToTensor(),',
        f'                     {normalize}])',
    )


def model_card(
    context: EvaluationContext,
    encoder: nn.Module,
    file_name: str,
    size: int,
    sha256: str,
    code: tuple[str, ...],
    verification: str,
    input_text: str,
    notes: Sequence[str] = (),
) -> str:
    """Return README.md for an exported file, with front matter for the Hugging Face Hub.

    Format: https://huggingface.co/docs/hub/model-cards

    Args:
        context: the checkpoint.
        encoder: the backbone.
        file_name: name of the exported file.
        size: size of the file, in bytes.
        sha256: SHA-256 of the file.
        code: lines of Python that load the file.
        verification: result of the comparison after the file was read back.
        input_text: the images that the network takes, with the dimensions that are fixed.
        notes: further sentences about the file.
    """
    config = context.settings.to_builtin()
    method = config['method']['type']
    backbone = config['method'].get('backbone', {})
    backbone_name = backbone.get('name', backbone.get('type'))
    facts = {
        'file': f'{_code(file_name)}, {size:,} bytes',
        'SHA-256': f'`{sha256}`',
        'parameters': f'{sum(p.numel() for p in encoder.parameters()):,}',
        'input': _cell(input_text),
        'features': str(context.width),
        **_checkpoint_facts(context, config),
        'exported with': _cell(_exported_with()),
        'read back': verification,
    }
    if notes:
        facts['note'] = _cell('; '.join(notes))
    lines = [
        *_front_matter(method),
        '',
        f'# {method}: {_cell(backbone_name)}, {context.network} backbone',
        '',
        f'Written by ssl_zoo {__version__} from a checkpoint and the results beside it. '
        'This card repeats what they record and adds nothing.',
        '',
        '| | |',
        '|---|---|',
        *(f'| {name} | {value} |' for name, value in facts.items()),
        '',
        *_section('To load it', 'python', code),
        'Its images, from an RGB Pillow image:',
        '',
        *_fenced('python', preprocessing_code(context.preprocessing)),
        '',
        *_section('Method', 'json', [json.dumps(config['method'])]),
    ]
    if method != 'Imported':  # an imported checkpoint's config has placeholders for its training
        training = {key: config[key] for key in TRAINING_KEYS}
        lines += _section('Training', 'json', [json.dumps(training)])
    lines += ['## Results', '', *_results_table(context)]
    return '\n'.join(lines) + '\n'


def _section(title: str, language: str, code: Sequence[str]) -> list[str]:
    return [f'## {title}', '', *_fenced(language, code), '']


def _front_matter(method: str) -> list[str]:
    return [
        '---',
        'tags:',
        '- self-supervised-learning',
        f'- {method.lower()}',
        '- ssl_zoo',
        'pipeline_tag: image-feature-extraction',
        '---',
    ]


def _fenced(language: str, lines: Sequence[str]) -> list[str]:
    return [f'```{language}', *lines, '```']


def _exported_with() -> str:
    installed = versions()
    return ', '.join(f'{package} {installed[package]}' for package in EXPORT_PACKAGES)


def _checkpoint_facts(context: EvaluationContext, config: dict) -> dict[str, str]:
    """Return facts about the checkpoint and the origin of its weights, by name."""
    content = read_checkpoint(context.path)
    used = content.get('versions', {})
    packages = ', '.join(f'{name} {version}' for name, version in used.items()) or NOT_RECORDED
    sha256 = f'`{context.checkpoint_hash}` (its first 16 digits)'
    if config['method']['type'] == 'Imported':
        return {
            **_origin(config['method'].get('source')),
            'checkpoint, SHA-256': sha256,
            'imported with': _cell(packages),
        }
    return {
        **_training_history(content, config, context.step),
        'checkpoint, SHA-256': sha256,
        'trained with': _cell(packages),
    }


def _training_history(content: dict, config: dict, step: int) -> dict[str, str]:
    """Return facts about the training of a checkpoint."""
    images = content.get('images')
    batch_size = config['batch_size']
    dataset = {
        key: value for key, value in config['data']['train'].items() if key not in PRIVATE_DATA_KEYS
    }
    if images:
        passes = f'{step * batch_size / images:.1f} of {config["epochs"]:g}'
        n_images = f'{images:,}'
    else:
        passes = f'{config["epochs"]:g} in the config'
        n_images = NOT_RECORDED
    return {
        'optimizer steps': f'{step:,} of {batch_size:,} images',
        'passes over the training images': passes,
        'training images': f'{n_images}, {_code(json.dumps(dataset))}',
        'their names and labels, as a hash': _cell(content.get('manifest') or NOT_RECORDED),
    }


def _origin(source: object) -> dict[str, str]:
    """Return facts about the file that a checkpoint was imported from."""
    if not isinstance(source, dict):
        source = {}
    steps = as_steps(source.get('steps'))
    layout = _cell(source.get('layout', NOT_RECORDED))
    return {
        'imported from': f'{_code(source.get("file", NOT_RECORDED))}, layout {layout}',
        'its SHA-256': _code(source.get('sha256', NOT_RECORDED)),
        'optimizer steps': f'{steps:,}' if steps else NOT_RECORDED,
    }


def _results_table(context: EvaluationContext) -> list[str]:
    """Return a table of the network's results; of repeated measurements the last counts."""
    rows = {}
    unreadable = 0
    for row in rows_of(Path(context.work_dir, 'results.jsonl')):
        if not _is_of_network(row, context) or row.get('value') is None:
            continue
        try:
            cells = _result_cells(row)
        except (TypeError, ValueError, KeyError, AttributeError, OverflowError, RecursionError):
            unreadable += 1  # no row that an evaluation writes
            continue
        rows[tuple(str(row.get(key)) for key in MEASUREMENT_KEYS)] = cells
    lines = ['None is recorded beside the checkpoint.']
    if rows:
        lines = [
            '| metric | value | 95 % interval | n | test images | weights | protocol |',
            '|---|---|---|---|---|---|---|',
            *(f'| {" | ".join(map(_cell, cells))} |' for cells in rows.values()),
        ]
    if unreadable:
        lines += ['', f'{unreadable} rows of results.jsonl could not be read and are left out.']
    return lines


def _result_cells(row: dict) -> list[object]:
    """Return the cells of a results row. Raises TypeError, ValueError ... for other values."""
    value = float(row['value'])
    if isinstance(row['value'], (bool, str)) or not math.isfinite(value):
        raise ValueError(f'the value is {row["value"]!r}')
    return [
        row.get('metric'),
        f'{value:.2f} %',
        _interval(row),
        row.get('n'),
        f'{row.get("test")} ({row.get("test_manifest")})',
        row.get('weights'),
        _protocol(row),
    ]


def _is_of_network(row: dict, context: EvaluationContext) -> bool:
    """Return whether a results row was measured on the exported backbone.

    Rows of evaluation commands hold the checkpoint's hash and the network. Rows that training
    writes hold the checkpoint's file name, and measure the network that contains the method's
    ``backbone``.
    """
    if 'checkpoint_sha256' in row:
        measured = (row['checkpoint_sha256'], row.get('network'), row.get('layer'))
        return measured == (context.checkpoint_hash, context.network, 'backbone')
    return (
        Path(str(row.get('checkpoint'))).name == context.path.name
        and row.get('step') == context.step
        and row.get('network') == 'backbone'
        and context.network == context.method.main_network
    )


def _protocol(row: dict) -> str:
    """Return the sentence of a row's protocol; older versions stored the sentence itself."""
    protocol = row.get('protocol')
    return describe_row(row) if isinstance(protocol, dict) else str(protocol)


def _interval(row: dict) -> str:
    ci95 = row.get('ci95')
    if isinstance(ci95, list) and len(ci95) == 2:
        low, high = ci95
        return f'{low:.2f} to {high:.2f}'
    if isinstance(row.get('std'), (int, float)):
        return f'not computed; std {row["std"]:.2f} over {row.get("draws")} draws'
    return 'not computed'


def _cell(value: object) -> str:
    """Return text for a heading or a cell of a Markdown table: no HTML, link, image or address.

    The text may come from a checkpoint or a results row of a stranger.
    """
    text = html.escape(_one_line(value), quote=False)
    text = re.sub(r'([\\\[\]|])', r'\\\1', text)
    return text.replace('://', '&#58;//').replace('www.', 'www&#46;')


def _code(value: object) -> str:
    """Return text as code in a cell of a Markdown table, where nothing but | has a meaning."""
    return '`' + _one_line(value).replace('|', '\\|') + '`'


def _one_line(value: object) -> str:
    return printable(' '.join(str(value).split())).replace('`', "'")
