"""What is found in a foreign file, whatever its layout."""

from dataclasses import dataclass, field

from ssl_zoo.interop.safe_unpickling import Stored

Weights = dict[str, Stored]


@dataclass
class ForeignNetwork:
    """Attributes: backbone, projector: names as timm has them, names within nn.Sequential, and what is stored under them."""

    backbone: Weights
    projector: Weights = field(default_factory=dict)
    activation: str = 'relu'


@dataclass
class ForeignCheckpoint:
    """What a file has.

    Attributes:
        layout: its name; networks: 'online' and perhaps 'target'; main: the one to evaluate.
        left_out: names that were not taken; backbone: keys of build_backbone that no weight shows.
        ambiguous_heads: who gives ViTs 12 heads where others give fewer, so that the number must be given; '' if it need not.
        dataset: name of what it was trained on, in lower case, '' if the file does not say.
        steps: optimiser steps done, 0 if the file does not say.
    """

    layout: str
    networks: dict[str, ForeignNetwork]
    main: str
    left_out: list[str]
    backbone: dict = field(default_factory=dict)
    ambiguous_heads: str = ''
    steps: int = 0
    dataset: str = ''
