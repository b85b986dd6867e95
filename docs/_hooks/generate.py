"""mkdocs hook: make the pages and tables that repeat what the registry or the configs know.

Three things happen at build:
  - pages are added: one per method file, the API reference, the study files, and the READMEs of
    two other folders (INCLUDED);
  - a line ``<!-- generated: NAME -->`` of a page is replaced by the table of that name (TABLES);
  - links to files outside docs/, which work in a clone, become links to the page that shows the
    file.
"""

import ast
import importlib.util
import inspect
import json
import logging
import os
import re
import statistics
import textwrap
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from pathlib import Path

import ssl_zoo
from ssl_zoo.build import build_method
from ssl_zoo.config import settings as settings_module
from ssl_zoo.config.loading import load_config
from ssl_zoo.data.views import View
from ssl_zoo.evaluation.recipes import LINEAR, Recipe
from ssl_zoo.method import Method
from ssl_zoo.registry import METHODS, OPTIMIZERS, SOURCES, Registry

ROOT = Path(__file__).resolve().parents[2]
DIGITS = json.loads((ROOT / 'docs/results/digits.json').read_text())
RACES = [
    json.loads(line) for line in (ROOT / 'docs/results/speedrun.jsonl').read_text().splitlines()
]
ARXIV = re.compile(r'arXiv[ :](\d{4}\.\d{4,5})')
LINK = re.compile(r'\[([^\]]*)\]\(([^)\s]+)\)')
MARKER = re.compile(r'^<!-- generated: ([\w ]+) -->$', re.MULTILINE)
FENCE = re.compile(r'^(```.*?^```)$', re.MULTILINE | re.DOTALL)

# Page of the API reference -> the modules that it shows; 'package.*' stands for all of its modules.
API = {
    'method': ['ssl_zoo.method', 'ssl_zoo.build'],
    'layers': ['ssl_zoo.layers'],
    'losses': ['ssl_zoo.losses'],
    'optim': ['ssl_zoo.optim'],
    'backbones': ['ssl_zoo.backbones', 'ssl_zoo.input_size'],
    'registry': ['ssl_zoo.registry', 'ssl_zoo.errors', 'ssl_zoo.validation'],
    'config': ['ssl_zoo.config.*'],
    'views': ['ssl_zoo.data.views', 'ssl_zoo.data.crop', 'ssl_zoo.data.photometric'],
    'sources': ['ssl_zoo.data.sources.*'],
    'engine': [
        'ssl_zoo.engine.trainer',
        'ssl_zoo.engine.initial_weights',
        'ssl_zoo.engine.writers',
        'ssl_zoo.checkpoint',
    ],
    'distributed': [
        'ssl_zoo.distributed.collectives',
        'ssl_zoo.distributed.batchnorm',
        'ssl_zoo.distributed.process_group',
    ],
    'evaluation': ['ssl_zoo.evaluation.*', 'ssl_zoo.sklearn'],
    'protocols': ['ssl_zoo.evaluation.protocols.*'],
    'studies': ['ssl_zoo.studies.*'],
    'interop': ['ssl_zoo.interop.*'],
}
# Page made from a README of another folder -> that file.
INCLUDED = {
    'byol_ablations.md': 'configs/byol/README.md',
    'benchmarks.md': 'benchmarks/README.md',
    'gpu_pieces.md': 'benchmarks/gpu/README.md',
}
# Files in these places may be linked without a page that shows them.
WITHOUT_PAGE = ('benchmarks/', 'tests/', 'tools/', 'ssl_zoo/', 'methods/', 'configs/', 'LICENSE')

NBSP = '\u00a0'  # keeps a number and its unit on one line

log = logging.getLogger('mkdocs.hooks.generate')


# What the code knows


@dataclass
class Entry:
    """A method file of the zoo.

    Attributes:
        stem: name of the file in methods/, without '.py'.
        cls: the registered class.
        configs: its config files, relative to the repository, sorted.
    """

    stem: str
    cls: type[Method]
    configs: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The method's name in its paper: the module docstring up to the colon."""
        return self.module_doc.split(':')[0]

    @property
    def module_doc(self) -> str:
        return inspect.getdoc(inspect.getmodule(self.cls))

    @property
    def papers(self) -> list[str]:
        """arXiv numbers in the module's docstring, in order, each once."""
        return list(dict.fromkeys(ARXIV.findall(self.module_doc)))


@cache
def zoo() -> list[Entry]:
    """Every registered method of methods/ with its configs, BYOL and its ablations first."""
    entries = {}
    for name in METHODS.names():
        cls = METHODS.find(name)
        package, _, stem = cls.__module__.rpartition('.')
        if package == 'ssl_zoo.methods':
            entries[name] = Entry(stem, cls)
    for path in sorted(ROOT.glob('configs/*/*.py')):
        if path.parent.name in ('_base_', 'studies'):
            continue
        method = load_config(path).method['type']
        entries[method].configs.append(path.relative_to(ROOT).as_posix())
    return sorted(
        entries.values(), key=lambda entry: (not entry.stem.startswith('byol'), entry.stem)
    )


def header(path: Path) -> str:
    """The docstring of a Python file."""
    return inspect.cleandoc(ast.get_docstring(ast.parse(path.read_text())) or '')


def attributes(cls: type) -> dict[str, str]:
    """Name -> meaning, from the ``Attributes:`` or ``Args:`` section of a class docstring."""
    doc = inspect.getdoc(cls)
    _, _, section = re.split(r'^(Attributes|Args):', doc, maxsplit=1, flags=re.MULTILINE)
    out = {}
    names = []
    for line in section.splitlines():
        if line and not line.startswith(' '):
            break
        start = re.match(r' {1,4}(\w[\w, ]*?):\s+(.*)$', line)
        if start:
            names = re.split(r',\s*', start[1])
            for name in names:
                out[name] = start[2]
        elif line.strip():
            for name in names:
                out[name] += ' ' + line.strip()
    return out


@cache
def api_modules(page: str) -> list[str]:
    """The modules of a page of the API reference, from API."""
    modules = []
    for name in API[page]:
        package, star, _ = name.partition('.*')
        if not star:
            modules.append(name)
            continue
        files = sorted((ROOT / package.replace('.', '/')).glob('[!_]*.py'))
        modules += [f'{package}.{file.stem}' for file in files]
    return modules


# Tables


def table(columns: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [columns, ['---'] * len(columns), *rows]
    return '\n'.join('| ' + ' | '.join(cells) + ' |' for cells in lines)


def zoo_table() -> str:
    """Method, file, papers and configs; links are relative to docs/."""
    rows = []
    for entry in zoo():
        papers = ', '.join(f'[{number}](https://arxiv.org/abs/{number})' for number in entry.papers)
        configs = ', '.join(f'[{Path(path).stem}](../{path})' for path in entry.configs)
        page = f'[{entry.name}](methods/{entry.stem}.md)'
        rows.append([page, f'[{entry.stem}.py](../methods/{entry.stem}.py)', papers, configs])
    return table(['method', 'file', 'paper (arXiv)', 'configs'], rows)


def properties_table() -> str:
    """What each method needs from a run, with the arguments of its config for the digits."""
    rows = []
    for entry in zoo():
        config = next(path for path in entry.configs if Path(path).stem.startswith('digits'))
        method = build_method(load_config(ROOT / config))
        n_views = method.n_views
        rows.append(
            [
                f'[{entry.name}](methods/{entry.stem}.md)',
                str(n_views) if n_views else f'{method.min_views} or more',
                'yes' if 'target' in method.networks else 'no',
                method.batch_coupling or 'nothing',
                'all processes' if method.sync_batchnorm else 'each process',
            ]
        )
    columns = [
        'method',
        'views',
        'averaged network',
        'what the loss takes from other images',
        'BatchNorm over',
    ]
    return table(columns, rows)


def digits_row(row: dict) -> list[str]:
    """The cells of one measured row."""
    path = row['config']
    return [
        f'[{path.removeprefix("configs/")}](../{path})',
        row['method'],
        f'{row["knn_mean"]:.2f}{NBSP}% ({row["knn_std"]:.2f})',
        f'{row["random_knn_mean"]:.2f}{NBSP}% ({row["random_knn_std"]:.2f})',
        f'{row["probe_mean"]:.2f}{NBSP}% ({row["probe_std"]:.2f})',
        f'{row["seconds"]}',
        f'{row["feature_std"]:.2f}',
        f'{row["rankme"]}',
        f'{row["seeds"]}',
    ]


DIGITS_COLUMNS = [
    'config',
    'method',
    'k-NN',
    'random weights',
    '2 labels per class',
    'seconds',
    'feature std',
    'RankMe',
    'seeds',
]


def digits_table() -> str:
    return table(DIGITS_COLUMNS, [digits_row(row) for row in DIGITS['rows']])


# Of other projects, as they publish it.
PUBLIC_RACES = [
    [
        '[dkobak/simclr-cifar10](https://github.com/dkobak/simclr-cifar10), their figures',
        'SimCLR, ResNet-18',
        f'90.3{NBSP}% (0.3)',
        '99',
        '500',
        'not given',
        'not given',
        'three runs',
        'A100',
    ]
]


def races_table(target: float) -> str:
    """The races to a target: a row for each entry on each device, means over seeds.

    Args:
        target: accuracy in percent.
    """
    groups: dict[tuple, list[dict]] = {}
    for row in RACES:
        if row['target'] == target:
            key = (row['entry'], row['device'], row['torch'], row['commit'])
            groups.setdefault(key, []).append(row)
    rows = PUBLIC_RACES if target == 90 else []
    rows = rows + [race_row(*key, races) for key, races in groups.items()]
    if not groups:
        rows.append(['ours', '-', 'not measured', '-', '-', '-', '-', '-', '-'])
    columns = ['entry', 'method', 'k-NN', 'minutes', 'minutes of the processor', 'epochs', 'PFLOP']
    columns += ['seeds', 'device']
    return table(columns, rows)


def race_row(entry: str, device: str, torch: str, commit: str, races: list[dict]) -> list[str]:
    """The cells of the races of one entry on one device: means, and in brackets the deviation."""

    def mean(key: str, digits: int) -> str:
        values = [row[key] for row in races]
        text = f'{statistics.mean(values):.{digits}f}'
        return f'{text} ({statistics.stdev(values):.{digits}f})' if len(values) > 1 else text

    first = races[0]
    millions = f'{first["parameters"] / 1e6:.2g}{NBSP}M parameters'
    missed = [str(row['seed']) for row in races if not row['reached']]
    seeds = ', '.join(sorted(str(row['seed']) for row in races))
    return [
        f'[{entry}](../configs/speedrun/{entry}.py)',
        f'{first["method"]}, {first["backbone"]["name"]} of {millions}',
        f'{mean("accuracy", 2)}{NBSP}%' + (f'; not reached: {", ".join(missed)}' if missed else ''),
        mean('minutes', 2),
        mean('processor_minutes', 2),
        mean('epochs', 1),
        mean('pflop', 4 if first['pflop'] < 0.1 else 0),
        seeds,
        f'{device}; torch {torch}, commit {commit}',
    ]


def gpu_tables() -> str:
    """The tables of the records of benchmarks/gpu."""
    path = ROOT / 'benchmarks/gpu/tables.py'
    spec = importlib.util.spec_from_file_location('gpu_tables', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.tables()


def preset_row(name: str, recipe: Recipe) -> list[str]:
    """The cells of one preset of the linear protocol."""
    optimizer = f'{recipe.optimizer}, Nesterov' if recipe.nesterov else recipe.optimizer
    rates = ', '.join(f'{rate:g}' for rate in recipe.lrs)
    if len(recipe.lrs) > 5:
        rates = f'{len(recipe.lrs)} from {min(recipe.lrs):g} to {max(recipe.lrs):g}'
    if recipe.per_256:
        rates += ' x b/256'
    return [
        f'`{name}`',
        optimizer,
        f'{recipe.epochs[0]:g}',
        f'{recipe.batch_size}',
        rates,
        ', '.join(f'{decay:g}' for decay in recipe.weight_decays),
        preset_schedule(recipe),
        recipe.init,
        recipe.source,
    ]


def preset_schedule(recipe: Recipe) -> str:
    """Shape of the learning rate and interpolation of the images, in words."""
    shape = 'cosine'
    if recipe.shape == 'steps':
        shape = 'x 0.1 at ' + ', '.join(f'{share:.0%}' for share in recipe.milestones)
    parts = [shape, 'by epochs' if recipe.per_epoch else 'by steps']
    if recipe.end:
        parts.append(f'to {recipe.end:g}')
    if recipe.interpolation != 'bicubic':
        only_training = recipe.test_interpolation != 'bilinear'
        parts.append('bilinear in training' if only_training else 'bilinear')
    return ', '.join(parts)


def presets_table() -> str:
    columns = [
        'preset',
        'optimizer',
        'epochs',
        'batch',
        'learning rate',
        'weight decay',
        'schedule',
        'start',
        'source',
    ]
    return table(columns, [preset_row(name, recipe) for name, recipe in LINEAR.items()])


def keys_table(cls: type, prefix: str = '') -> str:
    """The fields of a settings class with type, default and meaning."""
    meanings = attributes(cls)
    annotations = inspect.get_annotations(cls)
    rows = []
    for item in fields(cls):
        default = 'required' if item.default is MISSING else f'`{item.default!r}`'
        if item.default_factory is not MISSING:
            default = f'`{type(item.default_factory()).__name__}()`'
        kind = annotations[item.name]
        kind = getattr(kind, '__name__', None) if isinstance(kind, type) else str(kind)
        kind = str(kind).replace('|', 'or')
        meaning = re.sub(r'``([^`]*)``', r'`\1`', meanings.get(item.name, '')).replace('|', r'\|')
        rows.append([f'`{prefix}{item.name}`', kind, default, meaning])
    return table(['key', 'type', 'default', 'meaning'], rows)


def sources_table() -> str:
    """Every registered source with the first paragraph of its docstring."""
    rows = []
    for name in SOURCES.names():
        cls = SOURCES.find(name)
        if not cls.__module__.startswith('ssl_zoo.'):
            continue
        first = ' '.join(inspect.getdoc(cls).split('\n\n')[0].split())
        arguments = ', '.join(inspect.signature(cls).parameters)
        rows.append([f'`{name}`', f'`{arguments}`', first.replace('|', r'\|').replace('``', '`')])
    return table(['type', 'arguments', 'reads'], rows)


def python_api() -> str:
    """The names of ``ssl_zoo`` with the module that defines each."""
    rows = []
    for name in ssl_zoo.__all__:
        value = getattr(ssl_zoo, name)
        if isinstance(value, Registry):
            module = 'ssl_zoo.registry'
            first = f'The registry of every {value.name}.'
        else:
            module = value.__module__
            first = inspect.getdoc(value).split('\n\n')[0]
        page = page_of(module.replace('.', '/') + '.py')
        where = f'[{module}]({os.path.relpath(page, "api")})' if page else f'`{module}`'
        rows.append([f'`{name}`', where, ' '.join(first.split()).replace('|', r'\|')])
    return table(['name', 'module', 'meaning'], rows)


TABLES = {
    'python api': python_api,
    'zoo': zoo_table,
    'properties': properties_table,
    'digits': digits_table,
    'race to 90': lambda: races_table(90.0),
    'race on a CPU': lambda: races_table(33.0),
    'gpu': gpu_tables,
    'linear presets': presets_table,
    'sources': sources_table,
    'optimizers': lambda: ', '.join(f'`{name}`' for name in OPTIMIZERS.names()),
    'keys': lambda: keys_table(settings_module.Settings),
    'keys of data': lambda: keys_table(settings_module.Data, 'data.'),
    'keys of a view': lambda: keys_table(View),
    'keys of schedule': lambda: keys_table(settings_module.Schedule, 'schedule.'),
    'keys of online_eval': lambda: keys_table(settings_module.OnlineEvaluation, 'online_eval.'),
    'keys of checkpoint': lambda: keys_table(settings_module.Checkpoints, 'checkpoint.'),
    'keys of parallel': lambda: keys_table(settings_module.Parallel, 'parallel.'),
}


def fill_markers(markdown: str) -> str:
    """Replace every ``<!-- generated: NAME -->`` line."""
    return MARKER.sub(lambda match: TABLES[match[1]](), markdown)


# Pages


def prose(docstring: str) -> str:
    """A docstring as Markdown: lists and the lines Cost and Accuracy become separate blocks."""
    out = []
    previous = ''
    for line in docstring.replace('``', '`').splitlines():
        item = re.match(r' {0,3}[-*] ', line)
        in_list = re.match(r' {0,3}[-*] | {2,}\S', previous)
        starts = item and not in_list
        ends = in_list and not item and re.match(r'\S', line)
        if starts or ends or re.match(r'(Cost|Accuracy)\b', line):
            out.append('')
        out.append(line.lstrip() if item else line)
        previous = line
    return '\n'.join(out)


def method_page(entry: Entry) -> str:
    """What the method is, its class, its configs with their sources, and its measured rows."""
    title, _, rest = entry.module_doc.partition('\n')
    parts = [f'# {entry.name}', prose(f'{title}\n{rest}')]
    if entry.papers:
        links = (f'[arXiv {number}](https://arxiv.org/abs/{number})' for number in entry.papers)
        parts.append('Paper: ' + ', '.join(links) + '.')
    parts += ['## The class', class_block(entry)]
    parts += ['## Configs', *(config_section(path) for path in entry.configs)]
    rows = [digits_row(row) for row in DIGITS['rows'] if row['method'] == entry.cls.__name__]
    if rows:
        parts += [
            '## Measured on the digits',
            table(DIGITS_COLUMNS, rows).replace('(../', '(../../'),
        ]
        parts.append(measured_how())
    parts += ['## Source', f'`methods/{entry.stem}.py`', source(ROOT / f'methods/{entry.stem}.py')]
    return '\n\n'.join(parts) + '\n'


def class_block(entry: Entry) -> str:
    """The class through mkdocstrings, with the functions that the file defines."""
    return textwrap.dedent(f"""\
        ::: methods.{entry.stem}.{entry.cls.__name__}
            options:
              show_root_heading: true
              show_root_full_path: false
              heading_level: 3
              show_source: false
              members: [loss, after_step]
        """).rstrip()


def measured_how() -> str:
    """How the rows of the digits table were measured, in one paragraph."""
    seeds = ', '.join(str(seed) for seed in DIGITS['seeds'])
    return (
        f'{DIGITS["test_images"]} test images; mean (sample standard deviation), seeds {seeds}. '
        f'"Random weights" is the same backbone before training. `{DIGITS["command"]}`; '
        f'{DIGITS["machine"]}. {DIGITS["note"]} [All methods and what the columns mean]'
        '(../studies.md#every-method-with-its-own-recipe-on-the-digits).'
    )


def config_section(path: str) -> str:
    """A config's header and its source, folded."""
    folded = textwrap.indent(source(ROOT / path), '    ')
    return f'### {Path(path).stem}\n\n{prose(header(ROOT / path))}\n\n??? note "{path}"\n\n{folded}'


def source(path: Path) -> str:
    return f'```python\n{path.read_text().rstrip()}\n```'


def study_files_page() -> str:
    """Every file of configs/studies with its source."""
    parts = [
        '# Studies as files',
        'The files of `configs/studies/`. [Studies](studies.md) explains them.',
    ]
    for path in sorted(ROOT.glob('configs/studies/*.py')):
        relative = path.relative_to(ROOT).as_posix()
        parts += [f'## {path.stem}', prose(header(path)), f'`{relative}`', source(path)]
    return '\n\n'.join(parts) + '\n'


def api_page(name: str) -> str:
    parts = [f'# {name}']
    for module in api_modules(name):
        parts += [f'## `{module}`', f'::: {module}\n    options:\n      heading_level: 3']
    return '\n\n'.join(parts) + '\n'


def generated_pages() -> dict[str, str]:
    """Path in the site -> Markdown."""
    pages = {f'methods/{entry.stem}.md': method_page(entry) for entry in zoo()}
    pages |= {f'api/{name}.md': api_page(name) for name in API}
    pages |= {page: (ROOT / path).read_text() for page, path in INCLUDED.items()}
    pages['study_files.md'] = study_files_page()
    return pages


# Links


def page_of(path: str) -> str | None:
    """The page, with its anchor, that shows a file of the repository; None if no page does."""
    included = {file: page for page, file in INCLUDED.items()}
    if path in included:
        return included[path]
    if path == 'README.md':
        return 'index.md'
    folder, _, name = path.rpartition('/')
    stem = name.removesuffix('.py')
    if folder == 'configs/studies':
        return f'study_files.md#{stem}'
    if folder == 'methods':
        return f'methods/{stem}.md'
    for entry in zoo():
        if path in entry.configs:
            return f'methods/{entry.stem}.md#{stem}'
    module = path.removesuffix('.py').removesuffix('/__init__').replace('/', '.')
    for page in API:
        if module in api_modules(page):
            return f'api/{page}.md'
    return None


def rewrite_links(markdown: str, page: str) -> str:
    """Turn links to files outside docs/ into links to pages, or into text if no page shows them."""
    base = os.path.dirname(INCLUDED.get(page, f'docs/{page}'))

    def replace(match: re.Match) -> str:
        text, target = match.groups()
        path, hash_sign, anchor = target.partition('#')
        if not path or '://' in path or path.startswith('mailto:'):
            return match[0]
        path = os.path.normpath(os.path.join(base, path))
        if path.startswith('docs/'):
            shown = path.removeprefix('docs/') + hash_sign + anchor
        else:
            shown = page_of(path)
            if shown and hash_sign:
                shown = shown.partition('#')[0] + hash_sign + anchor
        if shown is None:
            if not (ROOT / path).exists() or not path.startswith(WITHOUT_PAGE):
                log.warning('%s links to %s, which no page shows', page, target)
            return text
        file, hash_sign, anchor = shown.partition('#')
        relative = os.path.relpath(file, os.path.dirname(page) or '.')
        return f'[{text}]({relative}{hash_sign}{anchor})'

    parts = FENCE.split(markdown)  # code blocks are the odd parts
    parts[::2] = [LINK.sub(replace, part) for part in parts[::2]]
    return ''.join(parts)


# What mkdocs calls


def on_config(config):
    """Fill the empty sections of the navigation."""
    sections = {
        'Methods': [{entry.name: f'methods/{entry.stem}.md'} for entry in zoo()],
        'API reference': [{'ssl_zoo': 'api/index.md'}, *({name: f'api/{name}.md'} for name in API)],
    }
    for item in config.nav:
        [title] = item
        if title in sections:
            item[title] = sections[title]
    return config


def on_files(files, config):
    """Add the generated pages."""
    from mkdocs.structure.files import File

    for path, content in generated_pages().items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown, page, config, files):
    return rewrite_links(fill_markers(markdown), page.file.src_uri)
