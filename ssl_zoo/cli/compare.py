"""Test whether two networks differ on the same test images.

    ssl-zoo compare RUN_A/predictions/linear_top1_....npz RUN_B/predictions/linear_....npz

Every evaluation saves its predictions and prints the name of the file. The test is paired: it
counts the images that only one of the two networks classifies correctly. The result is about these
two networks on images like these, not about two methods: for methods, compare over training seeds.
"""

import dataclasses
import json
import sys

from ssl_zoo.cli.command_parser import command_parser
from ssl_zoo.terminal import print_error


def describe_predictions(row: dict) -> str:
    """Return the origin of predictions: method, network, protocol and checkpoint of the row.

    Raises:
        ConfigError: the protocol of the row is not a dict of the fields that its name needs.
    """
    from ssl_zoo.evaluation.protocols.describe import describe_row

    method = row
    for key in ('config', 'method', 'type'):
        method = method.get(key) if isinstance(method, dict) else None
    network = [row.get(key) for key in ('weights', 'network', 'layer')]
    parts = [method, *network, describe_row(row), row.get('checkpoint')]
    return ', '.join(str(part) for part in parts if part)


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = command_parser('compare', __doc__)
    parser.add_argument('a', help='file of predictions')
    parser.add_argument('b', help='file of predictions for the same images')
    parser.add_argument('--metric', default='top1', help="'top1' (default) or 'mean_per_class'")
    parser.add_argument('--json', action='store_true', help='print JSON')
    args = parser.parse_args(argv)
    from ssl_zoo.errors import ConfigError
    from ssl_zoo.evaluation.predictions import Predictions, compare

    try:
        a = Predictions.load(args.a)
        b = Predictions.load(args.b)
        result = compare(a, b, args.metric)
        descriptions = [describe_predictions(a.row), describe_predictions(b.row)]
    except (ConfigError, OSError) as error:
        print_error(f'error: {error}')
        return 2
    if args.json:
        fields = dataclasses.asdict(result)
        print(json.dumps(dict(fields, metric=args.metric, file_a=args.a, file_b=args.b)))
        return 0
    for name, value, description in zip('AB', (result.a, result.b), descriptions, strict=True):
        print(f'{name}  {value:6.2f} %  {description}')
    print(
        f'B - A: {result.difference:+.2f} points, 95 % interval {result.low:+.2f} to '
        f'{result.high:+.2f} (paired bootstrap over {result.images:,} images)'
    )
    print(
        f'right in A alone: {result.only_a:,}, in B alone: {result.only_b:,}; '
        f"McNemar's exact test (of top-1): p = {result.p:.3g}"
    )
    return 0


if __name__ == '__main__':
    sys.exit(main())
