"""The networks of another library's checkpoint, under names that do not depend on the library."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from ssl_zoo.interop.safe_unpickling import LazyTensor

Weights = dict[str, LazyTensor]


@dataclass
class ForeignNetwork:
    """One network of a foreign checkpoint.

    Attributes:
        backbone: parameters and buffers of the backbone, by timm's names.
        projector: parameters and buffers of the projector, by the names of an ``nn.Sequential``
            ('0.weight'). Empty without a projector.
        activation: activation function of the projector, 'relu' or 'gelu'. The layout implies the
            function, because the file does not store it.
    """

    backbone: Weights
    projector: Weights = field(default_factory=dict)
    activation: str = 'relu'


@dataclass
class ForeignCheckpoint:
    """The content of a foreign checkpoint that an import can use.

    Attributes:
        layout: name of the layout, one of ``ssl_zoo.interop.layouts.NAMES``.
        networks: role -> network; the roles are 'online' and, if the file has a second network,
            'target'.
        main: role of the network that evaluations use by default.
        left_out: names in the file that the import does not use.
        backbone: arguments of ``build_backbone`` that the shapes of the weights do not determine.
        ambiguous_heads: source of ViTs with 12 heads, where other libraries' ViTs of the same width
            have fewer heads. If not '', the user must give the number of heads.
        steps: optimizer steps done; 0 if the file does not record them.
        dataset: lower-case name of the training set; '' if the file does not record the name.
        prefix: start of the backbone's names, where no layout was recognised; else None.
        has_unknown_stem: whether the user must give ``stem_padding``.
    """

    layout: str
    networks: dict[str, ForeignNetwork]
    main: str
    left_out: list[str]
    backbone: dict = field(default_factory=dict)
    ambiguous_heads: str = ''
    steps: int = 0
    dataset: str = ''
    prefix: str | None = None
    has_unknown_stem: bool = False


def as_steps(value: object) -> int:
    """Return the optimizer steps that a file records; 0 if it records no number of steps."""
    return value if type(value) is int and 0 < value < 2**53 else 0


def abbreviate(names: Iterable[str], most: int = 5) -> str:
    """Return the first names of a long list and the number of other names, for a message."""
    names = list(names)
    text = ', '.join(names[:most])
    if len(names) > most:
        text += f' and {len(names) - most} more'
    return text
