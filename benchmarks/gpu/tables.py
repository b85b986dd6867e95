"""Make the tables of the documentation from the records of the pieces.

    python benchmarks/gpu/tables.py [--records DIR]

docs/_hooks/generate.py calls ``tables``. A piece without a record is named as not measured, with
the command that measures it.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

RECORDS = Path(__file__).parent / 'records'


def read_records(folder: Path) -> dict[str, list[dict]]:
    """Return the records of each piece, those of --small left out."""
    records: dict[str, list[dict]] = {}
    for path in sorted(folder.glob('*.json')):
        record = json.loads(path.read_text())
        if not record['small']:
            records.setdefault(record['piece'], []).append(record)
    return records


def tables(folder: Path = RECORDS) -> str:
    """Return a section in Markdown for each piece."""
    records = read_records(folder)
    sections = []
    for piece, (title, make) in PIECES.items():
        parts = [f'**{piece}. {title}.**']
        if piece not in records:
            parts[0] += f' Not measured; run `python benchmarks/gpu {piece}`.'
        for record in records.get(piece, []):
            parts += [provenance(record), make(record), *missing(record)]
        sections.append('\n\n'.join(parts))
    return '\n\n'.join(sections)


def provenance(record: dict) -> str:
    """Return what a figure depends on, in one line."""
    return (
        f'{record["card"]}, driver {record["driver"]}, torch {record["torch"]}, commit '
        f'{record["commit"]}, {record["time"][:10]}, {record["seconds"] / 60:.1f} minutes: '
        f'`{record["command"]}`'
    )


def missing(record: dict) -> list[str]:
    """Return sentences about parts that failed or had no time."""
    lines = []
    for name, figures in record['figures'].items():
        if 'error' in figures:
            lines.append(f'Failed: {name} ({figures["error"]}).')
    if record['unfinished']:
        lines.append(f'Not finished: {", ".join(record["unfinished"])}.')
    return lines


def table(columns: list[str], rows: list[list[str]]) -> str:
    lines = [columns, ['---'] * len(columns), *rows]
    return '\n'.join('| ' + ' | '.join(cells) + ' |' for cells in lines)


def measured(record: dict, part: str) -> dict:
    """Return the figures of a part; nothing if it has none."""
    figures = record['figures'].get(part, {})
    return {} if 'error' in figures else figures


def methods_and_step(record: dict) -> str:
    methods = [row for name, row in record['figures'].items() if name.startswith('method ')]
    trained = sum('error' not in row for row in methods)
    text = f'{trained} of {len(methods)} configs for the digits train in bf16.'
    rows = []
    for part, figures in record['figures'].items():
        if not part.startswith('step, batch') or 'error' in figures:
            continue
        for name, row in figures['rows'].items():
            ratio = row.get('times_lightly')
            rows.append(
                [
                    str(figures['batch']) + (', recompute' if figures['recompute'] else ''),
                    name,
                    f'{row["images_per_second"]:.0f}',
                    '-' if ratio is None else f'{ratio:.2f}',
                    f'{row["of_peak"]:.0%}',
                ]
            )
    fed = measured(record, 'step from JPEGs')
    if fed:
        cells = [str(fed['batch']), 'ssl_zoo, compiled, from JPEGs']
        rows.append([*cells, f'{fed["images_per_second"]:.0f}', '-', '-'])
    columns = ['batch', 'step of ResNet-50', 'images/s', 'x lightly', 'of the bf16 peak']
    return f'{text}\n\n{table(columns, rows)}'


def runs(record: dict) -> str:
    """Return a row for each training of a piece."""
    rows = []
    for name, row in record['figures'].items():
        if 'accuracy' not in row:
            continue
        epochs = f'{row["epochs"]:.0f}'
        epochs += '' if row['complete'] else f' of {row["planned_epochs"]:g}, cut'
        rows.append(
            [
                name,
                f'{row["accuracy"]:.2f} %',
                f'{row["minutes"]:.1f}',
                epochs,
                f'{row["pflop"]:.0f}',
                f'{row["pflop"] * 1e15 / (60 * row["minutes"]) / 1e12:.0f}',
            ]
        )
    columns = ['run', 'k-NN', 'minutes', 'epochs', 'PFLOP', 'TFLOP/s']
    return table(columns, rows)


def profile(record: dict) -> str:
    times = measured(record, 'times')
    profiled = measured(record, 'profile')
    lines = []
    if times:
        lines.append(
            f'A step of {times["batch"]} images takes {times["step_milliseconds"]:.2f} ms '
            f'({times["images_per_second"]:.0f} images/s). Making its views alone takes '
            f'{times["views_alone_milliseconds"]:.2f} ms, {times["views_alone_of_step"]:.1%} of it.'
        )
    if profiled:
        lines.append(
            f'By the profiler the kernels of the views take {profiled["views_of_step"]:.1%} of the '
            f"device's time, and the host {profiled['views_host_milliseconds_per_step']:.2f} ms."
        )
        rows = [
            [f'`{kernel["name"][:60]}`', f'{kernel["milliseconds_per_step"]:.3f}']
            for kernel in profiled['kernels'][:10]
        ]
        lines.append(table(['kernel', 'ms per step'], rows))
    return '\n\n'.join(lines)


def searches(record: dict) -> str:
    rows = []
    for name, row in record['figures'].items():
        if 'error' in row:
            continue
        faiss = row.get('faiss_seconds')
        rows.append(
            [
                name,
                f'{row["queries"]:,} x {row["rows"]:,} x {row["dimensions"]}',
                f'{row["torch_seconds"]:.2f}',
                '-' if faiss is None else f'{faiss:.2f}',
                '-' if faiss is None else f'{row["agreement"]:.2%}',
            ]
        )
    columns = ['size of', 'queries x bank x dimensions', 'torch, s', 'FAISS, s', 'same neighbours']
    return table(columns, rows)


def one_process(record: dict) -> str:
    rows = [
        [name, ', '.join(f'{key} {value}' for key, value in figures.items())]
        for name, figures in record['figures'].items()
        if 'error' not in figures
    ]
    return table(['part', 'found'], rows)


# Letter -> (title, function from a record to Markdown); the order is that of the pieces.
PIECES: dict[str, tuple[str, Callable[[dict], str]]] = {
    'a': ("Every method trains; the ResNet-50 step beside lightly's", methods_and_step),
    'b': ('CIFAR-10: BYOL, k-NN over minutes', runs),
    'c': ('The CIFAR-10 step: where its time goes', profile),
    'd': ('The race to 90 % k-NN on CIFAR-10', runs),
    'e': ('CIFAR-10: SimCLR and MoCo v2 at the same minutes', runs),
    'f': ('Imagenette: BYOL, then SimCLR', runs),
    'g': ('The k-NN search on the GPU', searches),
    'h': ('NCCL with one process', one_process),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--records', type=Path, default=RECORDS)
    print(tables(parser.parse_args().records))


if __name__ == '__main__':
    main()
