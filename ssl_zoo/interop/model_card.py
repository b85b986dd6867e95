"""The model card of an exported backbone: what its checkpoint and the results beside it say, and nothing else."""

import json
from pathlib import Path

from torch import nn

from ssl_zoo import __version__
from ssl_zoo.checkpoint import read_checkpoint
from ssl_zoo.evaluation.features import Preprocessing
from ssl_zoo.evaluation.protocols.context import EvaluationContext, printable
from ssl_zoo.evaluation.results import rows_of
from ssl_zoo.versions import versions

PLACES = (
    'root',
    'path',
    'shards',
    'classes',
    'list',
)  # what a data set's config says of folders is nobody else's concern
TRAINING = (
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


def about(context: EvaluationContext) -> dict[str, str]:
    """What goes into a file's own metadata, as text."""
    p = context.preprocessing
    return dict(
        written_by=f'ssl_zoo {__version__}',
        method=context.settings.method['type'],
        network=context.network,
        backbone=json.dumps(context.settings.to_builtin()['method'].get('backbone')),
        step=str(context.step),
        checkpoint_sha256=context.checkpoint_hash,
        preprocessing=json.dumps(
            dict(
                size=p.size, resize=p.resize, interpolation=p.interpolation, mean=p.mean, std=p.std
            )
        ),
    )


def preprocessing_code(p: Preprocessing) -> tuple[str, ...]:
    """Lines of Python that make ``transform``, from an RGB Pillow image to what the network was evaluated on."""
    return (
        'from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Normalize, Resize, ToTensor',
        f'transform = Compose([Resize({p.resize}, InterpolationMode.{p.interpolation.upper()}), CenterCrop({p.size}), ToTensor(),',
        f'                     Normalize({[*p.mean]}, {[*p.std]})])',
    )


def model_card(
    context: EvaluationContext,
    encoder: nn.Module,
    name: str,
    size: int,
    sha256: str,
    code: tuple[str, ...],
    proof,
) -> str:
    """The text of README.md beside the file ``name``, with the front matter that the Hugging Face Hub reads
    (https://huggingface.co/docs/hub/model-cards).

    Args:
        encoder: the backbone; size, sha256: of the file; code: loads it; proof: what reading it back showed.
    """
    content = read_checkpoint(context.path)
    config, method = context.settings.to_builtin(), context.settings.method['type']
    imported = method == 'Imported'
    now = versions()
    made_with = (
        ', '.join(f'{key} {value}' for key, value in (content.get('versions') or {}).items())
        or 'not recorded'
    )
    parameters = sum(p.numel() for p in encoder.parameters())
    lines = [
        '---',
        'tags:',
        '- self-supervised-learning',
        f'- {method.lower()}',
        '- ssl_zoo',
        'pipeline_tag: image-feature-extraction',
        '---',
        '',
        f'# {method}: {_cell(config["method"].get("backbone", {}).get("name"))}, {context.network} backbone',
        '',
        f'Written by ssl_zoo {__version__} from a checkpoint and the results beside it; what they do not say is not here.',
        '',
        '| | |',
        '|---|---|',
        f'| file | `{_cell(name)}`, {size:,} bytes |',
        f'| SHA-256 | `{sha256}` |',
        f'| parameters | {parameters:,} |',
        f'| features | {context.width} |',
        *(
            _origin(config['method'].get('source') or {})
            if imported
            else _history(content, config, context.step)
        ),
        f'| checkpoint, SHA-256 | `{context.checkpoint_hash}` (its first 16 digits) |',
        f'| {"imported" if imported else "trained"} with | {_cell(made_with)} |',
        f'| exported with | {_cell(", ".join(f"{k} {now[k]}" for k in ("ssl_zoo", "torch", "torchvision", "timm")))} |',
        f'| read back | {proof} |',
        '',
        '## To load it',
        '',
        '```python',
        *code,
        '```',
        '',
        'Its images, from an RGB Pillow image:',
        '',
        '```python',
        *preprocessing_code(context.preprocessing),
        '```',
        '',
        '## Method',
        '',
        '```json',
        json.dumps(config['method']),
        '```',
        '',
        *(
            []
            if imported
            else [
                '## Training',
                '',
                '```json',
                json.dumps({key: config[key] for key in TRAINING}),
                '```',
                '',
            ]
        ),
        '## Results',
        '',
        *_results(context),
    ]
    return '\n'.join(lines) + '\n'


def _history(content: dict, config: dict, step: int) -> list[str]:
    """Rows on how it was trained."""
    images, batch = content.get('images'), config['batch_size']
    passes = (
        f'{step * batch / images:.1f} of {config["epochs"]:g}'
        if images
        else f'{config["epochs"]:g} in the config'
    )
    data = {key: value for key, value in config['data']['train'].items() if key not in PLACES}
    return [
        f'| optimiser steps | {step:,} of {batch:,} images |',
        f'| passes over the training images | {passes} |',
        f'| training images | {f"{images:,}" if images else "not recorded"}, `{_cell(json.dumps(data))}` |',
        f'| their names and labels, as a hash | {_cell(content.get("manifest") or "not recorded")} |',
    ]


def _origin(source: dict) -> list[str]:
    """Rows on what it was imported from, whose config says nothing of its training: what stands there for it are placeholders."""
    steps = source.get('steps')
    return [
        f'| imported from | `{_cell(source.get("file", "not recorded"))}`, layout {_cell(source.get("layout", "not recorded"))} |',
        f'| its SHA-256 | `{_cell(source.get("sha256", "not recorded"))}` |',
        f'| optimiser steps | {f"{steps:,}" if steps else "not recorded"} |',
    ]


def _results(context: EvaluationContext) -> list[str]:
    """A table of what was measured of this very network; of several measurements of one thing the last."""
    rows = {}
    for row in rows_of(Path(context.work_dir, 'results.jsonl')):
        if isinstance(row.get('value'), (int, float)) and _is_of(row, context):
            rows[
                tuple(
                    str(row.get(key))
                    for key in ('metric', 'protocol', 'test_manifest', 'n', 'weights')
                )
            ] = row
    if not rows:
        return ['None is recorded beside the checkpoint.']
    table = [
        '| metric | value | 95 % interval | n | test images | weights | protocol |',
        '|---|---|---|---|---|---|---|',
    ]
    for row in rows.values():
        test = f'{row.get("test")} ({row.get("test_manifest")})'
        cells = [
            row.get('metric'),
            f'{row["value"]:.2f} %',
            _interval(row),
            row.get('n'),
            test,
            row.get('weights'),
            row.get('protocol'),
        ]
        table.append('| ' + ' | '.join(map(_cell, cells)) + ' |')
    return table


def _is_of(row: dict, context: EvaluationContext) -> bool:
    """Whether a row speaks of this checkpoint's network, by the file's hash; those that training itself writes have none, but the file's
    name, and are of the network that the method's ``backbone`` belongs to."""
    if 'checkpoint_sha256' in row:
        return (row['checkpoint_sha256'], row.get('network'), row.get('layer')) == (
            context.checkpoint_hash,
            context.network,
            'backbone',
        )
    return (
        Path(str(row.get('checkpoint'))).name == context.path.name
        and row.get('step') == context.step
        and row.get('network') == 'backbone'
        and context.network == context.method.main_network
    )


def _interval(row: dict) -> str:
    if isinstance(row.get('ci95'), list) and len(row['ci95']) == 2:
        return '{:.2f} to {:.2f}'.format(*row['ci95'])
    if isinstance(row.get('std'), (int, float)):
        return f'not computed; std {row["std"]:.2f} over {row.get("draws")} draws'
    return 'not computed'


def _cell(value) -> str:
    """Text for one cell of a table."""
    return printable(' '.join(str(value).split())).replace('|', '\\|').replace('`', "'")
