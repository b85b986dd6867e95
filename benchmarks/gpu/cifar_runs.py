"""Pieces b, d and e: BYOL on CIFAR-10, the race, and SimCLR and MoCo v2 at the same minutes.

Every curve is that of the race's k-NN (k = 10, test images), see docs/speedrun.md.
"""

import json

from session import Session
from training import SMALL, fitting_epochs, image_options, looks, race

BYOL = 'configs/byol/r18_cifar10_200ep.py'
SPEED = ['compile=True', 'online_eval.every=0', 'checkpoint.every=10', 'checkpoint.keep=1']
MINUTES = 7.0  # of a run, if piece b has no record; two more go into its speed and its start
V2 = ['method.hidden_dim=512']  # MoCo v2 has a hidden layer, and the notebook's recipe has none
NEVER = 100.0  # a target that no run reaches: it trains to its last epoch


def _run(session: Session, name: str, config: str, options: list[str], minutes: float) -> dict:
    """Train as many epochs of a config as fit into some minutes."""
    options = [*image_options(session, 'cifar10'), *SPEED, *options]
    options += SMALL if session.small else []
    # The time for finding the number of epochs is the session's, not the run's.
    epochs = fitting_epochs(session, name, config, options, 60 * minutes)
    every = max(epochs // 15, 1)
    options += [f'epochs={epochs}', looks(NEVER, every)]
    return race(session, name, config, options, session.left())


def byol(session: Session) -> None:
    """Piece b."""
    options = ['batch_size=256', 'warmup_epochs=3', 'method.base_ema=auto']
    session.part('BYOL', 120, lambda: _run(session, 'b_byol', BYOL, options, MINUTES))


def race_to_90(session: Session) -> None:
    """Piece d: the entry for the race, as it stands."""
    entry = 'configs/speedrun/byol_cifar10.py'
    options = image_options(session, 'cifar10')
    if session.small:
        options += [*SMALL, 'epochs=1', looks(NEVER, 1)]
    session.part('race', 60, lambda: race(session, 'd_race', entry, options, session.left()))


def others(session: Session) -> None:
    """Piece e: each method takes a call of its own, because each takes as long as piece b."""
    minutes = _minutes_of_piece_b(session)
    runs = {
        'SimCLR': ('configs/simclr/r18_cifar10.py', ['warmup_epochs=3']),
        'MoCo v2': ('configs/moco/r18_cifar10.py', [*V2, 'batch_size=256']),
    }
    if session.small:
        runs['MoCo v2'][1].extend(['method.bn_splits=4', 'method.queue_size=40'])
    for name, (config, options) in runs.items():
        folder = f'e_{name.lower().replace(" ", "_")}'
        needs = 60 * minutes if not (session.out / folder).exists() else 60
        session.part(
            name,
            needs,
            lambda folder=folder, config=config, options=options: _run(
                session, folder, config, options, minutes
            ),
        )


def _minutes_of_piece_b(session: Session) -> float:
    path = session.out / 'b.json'
    if not path.exists():
        return MINUTES
    row = json.loads(path.read_text())['figures'].get('BYOL', {})
    return row.get('minutes', MINUTES)
