"""Fixtures of the protocols: the context of a checkpoint, and the steps of a training."""

import os
import signal

import pytest

from ssl_zoo.evaluation import classifier_training
from ssl_zoo.evaluation.protocols.context import EvaluationContext


@pytest.fixture
def context(checkpoint, tmp_path):
    """Function: the context of the checkpoint, with options, that writes to tmp_path / work."""

    def make(*options, work='work', **arguments):
        work_dir = str(tmp_path / work)
        return EvaluationContext(str(checkpoint), list(options), work_dir=work_dir, **arguments)

    return make


@pytest.fixture
def steps(monkeypatch):
    """The optimizer steps done so far, a list; SIGTERM comes during step number steps.stop_at."""

    class Steps(list):
        stop_at = None

    done = Steps()
    real = classifier_training.seed_everything

    def counted(seed):
        done.append(seed)
        if len(done) == done.stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        real(seed)

    monkeypatch.setattr(classifier_training, 'seed_everything', counted)
    return done
