"""Piece f: BYOL, then SimCLR on Imagenette, as many epochs as fit; a call for each."""

import json

from session import ROOT, Session
from training import SMALL, fitting_epochs, image_options, looks, race

MINUTES = 7.0
NEVER = 100.0
METHODS = {'BYOL': 'byol', 'SimCLR': 'simclr'}
SPEED = ['compile=True', 'online_eval.every=0', 'checkpoint.every=5', 'checkpoint.keep=1']


def run(session: Session) -> None:
    session.part('images', 0, images)
    for name, folder in METHODS.items():
        started = (session.out / f'f_{folder}').exists()
        session.part(
            name, 60 if started else 60 * MINUTES, lambda folder=folder: train(session, folder)
        )


def images() -> dict:
    """Say what prepare.py has done to the photographs."""
    note = ROOT / '.gpu/imagenette.json'
    return json.loads(note.read_text()) if note.exists() else dict(encoding='as distributed')


def train(session: Session, folder: str) -> dict:
    config = f'configs/{folder}/r18_imagenette.py'
    options = [*image_options(session, 'imagenette', size=40), *SPEED]
    if session.small:
        options += [*SMALL, 'views.0.size=32', 'views.1.size=32']
    epochs = fitting_epochs(session, f'f_{folder}', config, options, 60 * MINUTES)
    options += [f'epochs={epochs}', looks(NEVER, max(epochs // 10, 1))]
    return race(session, f'f_{folder}', config, options, session.left())
