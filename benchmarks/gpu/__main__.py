"""Measure on one GPU, in pieces of at most 9 minutes; README.md says what each piece shows.

    python benchmarks/gpu a                      # on a GPU
    python benchmarks/gpu a --small              # on a CPU: shows that the piece works

The record of a piece goes to <out>/full/<piece>.json (--small: <out>/small/) and, without --small,
to --records. The same command again does the parts for which there was no time.
"""

import argparse
import sys
from importlib import import_module
from pathlib import Path

from environment import ROOT, data_folder, use_packed_files

# Letter -> (module and function, what the piece shows), in the order in which they are worth a GPU.
PIECES = {
    'a': ('methods_and_step.run', 'every method trains; the ResNet-50 step beside lightly'),
    'b': ('cifar_runs.byol', 'CIFAR-10, BYOL: k-NN over minutes'),
    'c': ('cifar_profile.run', 'where the time of a CIFAR-10 step goes; share of the views'),
    'd': ('cifar_runs.race_to_90', 'the race to 90 % k-NN on CIFAR-10'),
    'e': ('cifar_runs.others', 'CIFAR-10, SimCLR and MoCo v2 at the minutes of piece b'),
    'f': ('imagenette_runs.run', 'Imagenette: BYOL, then SimCLR'),
    'g': ('knn_search.run', 'the k-NN search on the GPU beside FAISS'),
    'h': ('nccl.run', 'NCCL with one process: collectives and DistributedDataParallel'),
}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    listing = '; '.join(f'{letter}: {what}' for letter, (_, what) in PIECES.items())
    parser.add_argument('piece', choices=PIECES, help=listing)
    parser.add_argument('--out', type=Path, default=ROOT / 'work_dirs/gpu', help='folder of runs')
    parser.add_argument('--records', type=Path, default=Path(__file__).parent / 'records')
    parser.add_argument('--data', type=Path, default=data_folder(), help='folder of the images')
    parser.add_argument('--minutes', type=float, default=9, help='time of this call')
    parser.add_argument('--small', action='store_true', help='small enough for a CPU')
    args = parser.parse_args(argv)
    import torch
    from session import Session

    if not torch.cuda.is_available() and not args.small:
        print('there is no GPU here; --small shows on a CPU that the piece works', file=sys.stderr)
        return 2
    path, title = PIECES[args.piece]
    module, function = path.split('.')
    out = args.out / ('small' if args.small else 'full')
    session = Session(args.piece, title, out, args.data, args.small, args.minutes)
    session.run(getattr(import_module(module), function))
    if not args.small:
        args.records.mkdir(parents=True, exist_ok=True)
        card = torch.cuda.get_device_name().lower().replace(' ', '-')
        record = args.records / f'{args.piece}_{card}.json'
        record.write_text(session.path.read_text())
        print(f'wrote {record}')
    if session.unfinished:
        print(f'unfinished: {", ".join(session.unfinished)}; the same command continues')
    return 0


if __name__ == '__main__':
    use_packed_files()
    sys.exit(main())
