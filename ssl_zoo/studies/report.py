"""The report of a study: one page that needs no network, tables as Markdown and CSV, figures as files."""
import html
import re
from pathlib import Path

from ..atomic import keep
from ..registry import ConfigError
from . import figures, page
from . import map as maps
from .again import how_to_run
from .curves import KEYS, beside_the_others, curves, keys_of, read_log, series
from .style import save
from .summary import Arm, Study, read_study
from .tables import Table, accuracy_table, arms_csv, difference_table, runs_csv, tuning_table

SHOWN = [key for key in KEYS if key != 'train/spread']
QUERIES, NEAREST, ROWS = 5, 5, 4


def write_report(out: str | Path) -> Path:
    """Write ``out/report/``: index.html, table.md, table.csv (arms), runs.csv and the figures. An unfinished study gets a report of what is there.

    Args:
        out: the folder of a study.
    Returns:
        The path of the page.
    Raises:
        ConfigError: there is no study in the folder, or the report cannot be written.
    """
    study = read_study(out)
    folder = Path(out, 'report')
    content = Content(study, folder)
    texts = {'table.md': markdown(study, content.tables), 'table.csv': arms_csv(study), 'runs.csv': runs_csv(study),
             'index.html': page.page(study.plan['title'], content.body())}
    for name, text in texts.items():
        keep(folder / name, lambda file, text=text: file.write(text.encode()))
    return folder / 'index.html'


def markdown(study: Study, tables: list[Table]) -> str:
    from .tables import in_markdown
    parts = [f'## {in_markdown(study.plan["title"])}\n', in_markdown(str(study.plan.get('question', ''))) + '\n']
    parts += [f'- {in_markdown(text)}' for text in study.plan['caveats']]
    parts += ['\n' * bool(study.plan['caveats']) + '\n'.join(table.as_markdown() for table in tables)]
    if left := unfinished(study):
        parts += ['### Failed, missing or doubtful\n', *(f'- {in_markdown(text)}' for text in left), '']
    return '\n'.join(parts)


def unfinished(study: Study) -> list[str]:
    """Sentences on what failed, is missing or is in doubt."""
    failed = [f'{kind_of(record)} failed: {record.get("error") or "no error is recorded"}' for record in study.failures]
    warned = [f'tuning of {tuning.name}: {tuning.warning}' for tuning in study.tunings() if tuning.warning]
    return failed + study.problems + study.missing + warned


def kind_of(record: dict) -> str:
    name = Arm(str(record.get('method')), {k: v for k, v in (record.get('axes') or {}).items()}).name
    if record['kind'] == 'trial':
        return f'trial of {name}, factor {record.get("factor")}'
    return f'{name}, seed {record.get("seed")}'


def height_of(rows: int) -> int:
    """Pixels that so many rows of a views.png take."""
    from ..engine.progress import ViewsPictureHook as hook
    return hook.HEAD + rows * (hook.SIDE + hook.GAP) + hook.GAP


class Content:
    """The parts of the page; figures are drawn and saved on the way. What a part lacks, it says."""

    def __init__(self, study: Study, folder: Path):
        self.study, self.folder, self.used = study, folder, set()
        found = [accuracy_table(study), difference_table(study), difference_table(study, to_baseline=True), tuning_table(study)]
        self.accuracy, self.to_reference, self.to_baseline, self.tuning = found
        self.tables = [table for table in found if table]

    def save(self, drawn, name: str, *more: str) -> Path:
        """Save a figure as SVG, and under other endings as well; the path of the first."""
        paths = [save(drawn, self.path(name, ending)) for ending in ('.svg', *more)]
        return paths[0]

    def path(self, name: str, ending: str) -> Path:
        """A file of the report that no other part has taken."""
        stem = re.sub(r'\W+', '_', name.lower()).strip('_')
        while stem + ending in self.used:
            stem += '_'
        self.used.add(stem + ending)
        return self.folder / (stem + ending)

    def body(self) -> str:
        plan, parts = self.study.plan, [
            ('Results', 'results', self.results()), ('Along the axes', 'axes', self.along_axes()), ('Accuracy against cost', 'cost', self.cost()),
            ('Tuning', 'tuning', self.tuned()), ('Curves', 'curves', self.courses()), ('Method by method', 'methods', self.by_method()),
            ('To run it again', 'again', how_to_run(self.study))]
        parts = [part for part in parts if part[2]]
        left = unfinished(self.study)                             # after the figures, which may find more
        if left:
            parts.insert(1, ('Failed, missing or doubtful', 'missing', page.bullets(left)))
        links = ''.join(f'<a href="#{anchor}">{html.escape(title)}</a>' for title, anchor, _ in parts)
        head = f'<h1>{html.escape(plan["title"])}</h1>\n{page.paragraphs(str(plan.get("question", "")))}<nav>{links}</nav>\n'
        if plan['caveats']:
            head += '<div class="box"><strong>What this can and cannot show</strong>\n' + page.bullets(plan['caveats']) + '</div>\n'
        return head + self.state(left) + ''.join(page.section(*part) for part in parts)

    def state(self, left: list[str]) -> str:
        done, wanted = (sum(len(arm.runs) for arm in self.study.trained), len(self.study.trained) * len(self.study.plan['seeds']))
        failed = len([record for record in self.study.failures if record['kind'] == 'run'])
        text = f'{done} of {wanted} runs are finished' + (f', {failed} failed' if failed else '') + '.'
        if not left:
            return f'<p>{text}</p>\n'
        return f'<div class="box warn">{text} <a href="#missing">What failed, is missing or is in doubt ({len(left)})</a></div>\n'

    def results(self) -> str:
        shown = []
        for metric in self.study.metrics:
            drawn = figures.accuracy(self.study, [metric])
            if drawn:
                shown.append(page.figure(self.save(drawn, f'accuracy {metric["key"]}', '.png'), f'{metric["name"]} accuracy of each method over '
                             f'seeds; the numbers are in the table below', f'{metric["name"]}. Circles: seeds; diamond: their mean (orange: '
                             f'{self.study.plan["reference"]}); bar: 95 % interval, which goes on where it meets the frame; dashed: random weights.'))
        whole = figures.accuracy(self.study, self.study.metrics, width=2.1 * len(self.study.metrics) + 0.8)
        if whole:
            self.save(whole, 'accuracy', '.png')
        text = page.grid(shown) or '<p>No run is finished yet.</p>\n'
        return text + self.accuracy.as_html() + (self.to_reference.as_html() if self.to_reference else '')

    def along_axes(self) -> str:
        shown = []
        for axis in self.study.axes:
            for metric in self.study.metrics:
                drawn = figures.against_axis(self.study, axis, metric)
                if drawn:
                    first = self.study.axes[axis][0]
                    shown.append(page.figure(
                        self.save(drawn, f'axis {axis} {metric["key"]}', '.png'), f'{metric["name"]}: change of accuracy from {axis} {first}, a line for '
                        f'each method; the numbers are in the table below', f'{metric["name"]}: what changes from {axis} {first}, for each method '
                        f'against itself, paired over seeds. Lines: means; small signs: seeds; methods are set apart sideways.'))
        return page.grid(shown) + self.to_baseline.as_html() if self.to_baseline else ''

    def cost(self) -> str:
        shown = []
        for metric in self.study.metrics:
            drawn = figures.against_cost(self.study, metric)
            if drawn:
                shown.append(page.figure(self.save(drawn, f'cost {metric["key"]}', '.png'), f'{metric["name"]} accuracy over the cost of training, a '
                             f'point for each method; the numbers are in the table of results', f'{metric["name"]}; bars: 95 % interval over seeds, '
                                         'which goes on where it meets the frame.'))
        return page.grid(shown)

    def tuned(self) -> str:
        if not self.tuning:
            return ''
        drawn = figures.tuning_grid(self.study.tunings(), (self.study.plan['tune'] or {}).get('key', 'setting'))
        shown = page.grid([page.figure(self.save(drawn, 'tuning', '.png'), 'k-NN accuracy on val over the factors tried, a panel for each method; the '
                           'numbers are in the table below', 'Ring: the chosen trial; cross: a trial that failed, at the foot of the panel.')]) if drawn else ''
        return shown + self.tuning.as_html()

    def logs(self, arm: Arm) -> list:
        found = []
        for run in arm.runs.values():
            try:
                found.append(read_log(run['folder']))
            except ConfigError:
                self.problem(f'{arm.name}, seed {run.get("seed")}: it has no log.jsonl with a curve')
        return found

    def problem(self, text: str) -> None:
        if text not in self.study.problems:
            self.study.problems.append(text)

    def courses(self) -> str:
        groups = {arm.method: logs for arm in self.study.trained if self.study.at_baseline(arm) and (logs := self.logs(arm))}
        shown = []
        for key, name in KEYS.items():
            have = {method: logs for method, logs in groups.items() if any(series(log, key) for log in logs)}
            if key.startswith('val/') and len(have) > 1:
                shown.append(page.figure(self.save(beside_the_others(have, key), key, '.png'), f'{name} over epochs, a panel for each method',
                                         f'{name}: the method in colour, all the others in grey; means over seeds.'))
        return page.grid(shown)

    def by_method(self) -> str:
        text = ('<p class="note">Curves: means over seeds thick, seeds thin; losses of different methods are different quantities. Views: the first '
                'training images, each beside what the network is shown of it. Map and neighbours: test images by the features of the backbone, '
                'first seed; chosen by their place in the list, not by their looks.</p>\n')
        names = [arm.method for arm in self.study.arms if not arm.trained] + list(self.study.plan['methods'])
        blocks = [(name, self.one_method(name)) for name in dict.fromkeys(names)]
        blocks = [(name, cards) for name, cards in blocks if cards]
        return text + ''.join(f'<h3>{html.escape(name)}</h3>\n{page.grid(cards)}' for name, cards in blocks) if blocks else ''

    def one_method(self, method: str) -> list[str]:
        arms = [arm for arm in self.study.arms if arm.method == method and arm.runs]
        first = next((arm for arm in arms if self.study.at_baseline(arm)), arms[0] if arms else None)
        if first is None:
            return []
        groups = {', '.join(f'{axis} {label}' for axis, label in arm.axes.items()) or method: logs for arm in arms
                  if arm.trained and (logs := self.logs(arm))}
        cards, keys = [], [key for key in SHOWN if key in keys_of([log for logs in groups.values() for log in logs])]
        if keys:
            drawn = curves(groups, keys)
            cards.append(page.figure(self.save(drawn, f'curves {method}'), f'{method}: {", ".join(KEYS[key] for key in keys)} over epochs',
                                     f'{method}: curves of {len(arms[0].runs)} seed{"s" if len(arms[0].runs) > 1 else ""}.'))
        return cards + self.views(first) + self.picture_of_features(first)

    def views(self, arm: Arm) -> list[str]:
        found = next((path for run in arm.runs.values() if (path := run['folder'] / 'views.png').is_file()), None)
        if found is None or not arm.trained:
            return []
        path = self.path(f'views {arm.method}', '.jpg')
        try:
            content = page.as_jpeg(found, height_of(ROWS))
        except OSError as error:
            self.problem(f'{arm.name}: views.png cannot be read ({type(error).__name__})')
            return []
        keep(path, lambda file: file.write(content))
        return [page.figure(path, f'{arm.method}: training images beside their views', f'{arm.method}: the images and their views.')]

    def picture_of_features(self, arm: Arm) -> list[str]:
        file = next((path for run in arm.runs.values() if (path := run['folder'] / 'map.npz').is_file()), None)
        if file is None:
            return []
        try:
            found = maps.Map.load(file)
        except ValueError as error:
            self.problem(f'{arm.name}: map.npz cannot be read ({error})')
            return []
        path = save(maps.drawn_map(found, maps.tsne(found)), self.path(f'map {arm.method}', '.png'))
        queries = maps.first_of_each(found.labels, QUERIES)
        nearest = maps.neighbours(found, queries, min(NEAREST, len(found.labels) - 1))
        right = int((found.labels[nearest] == found.labels[queries][:, None]).sum())
        sheet = self.path(f'neighbours {arm.method}', '.jpg')
        keep(sheet, lambda stream: stream.write(maps.drawn_neighbours(found, queries, nearest)))
        return [page.figure(path, f'{arm.method}: t-SNE map of {len(found.labels)} test images by class', f'{arm.method}: t-SNE of {len(found.labels)} '
                            f'test images (cosine distance, perplexity {found.perplexity:g}, random state 0). Distances between groups mean nothing.'),
                page.figure(sheet, f'{arm.method}: {right} of {nearest.size} nearest neighbours are of the class of their image',
                            f'{arm.method}: nearest among {len(found.labels)} test images (cosine); tick and whole frame: of the same class '
                            f'({right} of {nearest.size}); cross and broken frame: of another.')]
