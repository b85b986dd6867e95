"""Compare two networks on the same test images: is the difference more than chance?

    python tools/compare.py RUN_A/predictions/linear_top1_....npz RUN_B/predictions/linear_top1_....npz

Every evaluation saves its predictions and names the file. The test is paired: it counts the images that one alone has right. It
speaks of these two networks on images like these, not of two methods: for that compare over training seeds.
"""

import argparse
import dataclasses
import json
import sys


def describe(row: dict) -> str:
    """What the predictions are of, as far as their row says it."""
    method = row
    for key in ('config', 'method', 'type'):
        method = method.get(key) if isinstance(method, dict) else None
    said = [
        method,
        *(row.get(key) for key in ('weights', 'network', 'layer', 'protocol', 'checkpoint')),
    ]
    return ', '.join(str(item) for item in said if item)


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('a', help='file of predictions')
    parser.add_argument('b', help='file of predictions for the same images')
    parser.add_argument('--metric', default='top1', help="'top1' (default) or 'mean_per_class'")
    parser.add_argument('--json', action='store_true', help='print JSON')
    args = parser.parse_args(argv)
    from ssl_zoo.errors import ConfigError
    from ssl_zoo.evaluation.predictions import Predictions, compare

    try:
        a, b = Predictions.load(args.a), Predictions.load(args.b)
        result = compare(a, b, args.metric)
    except ConfigError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    if args.json:
        print(
            json.dumps(
                dict(dataclasses.asdict(result), metric=args.metric, file_a=args.a, file_b=args.b)
            )
        )
        return 0
    for name, value, row in (('A', result.a, a.row), ('B', result.b, b.row)):
        print(f'{name}  {value:6.2f} %  {describe(row)}')
    print(
        f'B - A: {result.difference:+.2f} points, 95 % interval {result.low:+.2f} to {result.high:+.2f} (paired bootstrap over '
        f'{result.images:,} images)'
    )
    print(
        f"right in A alone: {result.only_a:,}, in B alone: {result.only_b:,}; McNemar's exact test (of top-1): p = {result.p:.3g}"
    )
    return 0


if __name__ == '__main__':
    sys.exit(main())
