"""Check the figures of the quick start: BYOL on the digits learns, and nothing warns.

python .ci/check_quick_start.py, after the README's first command, in the same directory.
"""

import json
from pathlib import Path


def main() -> None:
    results = sorted(Path('work_dirs').glob('*/*/results.jsonl'), key=lambda f: f.stat().st_mtime)
    if not results:
        raise SystemExit('work_dirs/ holds no finished run: run the README command first')
    rows = [json.loads(line) for line in results[-1].read_text().splitlines()]
    values = {(row['metric'], row['weights']): row['value'] for row in rows}
    knn = values['knn_top1', 'trained']
    probe = values['probe_2_per_class_top1', 'trained']
    random_probe = values['probe_2_per_class_top1', 'random weights']
    if knn < 95:
        raise SystemExit(f'k-NN is {knn:.2f} % on the test digits, and must be 95 % or more')
    if probe < random_probe + 20:
        raise SystemExit(
            f'the probe on 2 labels per class is {probe:.2f} %, and must be 20 points above '
            f'random weights ({random_probe:.2f} %)'
        )
    log = results[-1].with_name('train.log')
    if 'warning' in log.read_text():
        raise SystemExit(f'{log} holds a warning')
    print(
        f'quick start: k-NN {knn:.2f} %, probe {probe:.2f} %, random weights {random_probe:.2f} %'
    )


if __name__ == '__main__':
    main()
