"""Find the first tensor of a forward and backward pass that is not finite."""

from torch import Tensor, nn


class NonFiniteTracer:
    """Notes the first tensor of a pass that is not finite: weights, views, what a layer gives, terms of the loss, gradients.

    Args:
        network: what is looked at, until ``close``.
    """

    def __init__(self, network: nn.Module):
        self.network, self.first, self.noted = (
            network,
            None,
            0,
        )  # first: (how many were noted before, what)
        self.handles = [
            layer.register_forward_hook(self._output(name))
            for name, layer in network.named_modules()
        ]
        self.handles += [
            p.register_hook(
                lambda gradient, name=name: self.note(f'the gradient of {name}', gradient)
            )
            for name, p in network.named_parameters()
            if p.requires_grad
        ]

    def note(self, name: str, value) -> None:
        self.noted += 1
        if (
            self.first is None
            and isinstance(value, Tensor)
            and value.is_floating_point()
            and not value.isfinite().all()
        ):
            self.first = self.noted, f'{name}, {tuple(value.shape)}: {describe(value)}'

    def _output(self, name: str):
        def look(layer, inputs, output):
            if isinstance(output, dict):  # what the method's forward, or its preprocessor, gives
                if (
                    name == ''
                    and isinstance(output.get('loss'), Tensor)
                    and output['loss'].isfinite().all()
                ):
                    return  # a figure to log may be anything
                for key, value in output.items():
                    for i, item in enumerate(value if isinstance(value, list) else [value]):
                        self.note(
                            f'view {i + 1}'
                            if key == 'views'
                            else f'the term {key!r} of the loss'
                            if name == ''
                            else key,
                            item,
                        )
            else:
                for item in output if isinstance(output, (list, tuple)) else [output]:
                    self.note(f'the output of {name} ({type(layer).__name__})', item)

        return look

    def weights(self, when: str = 'before') -> None:
        for name, value in self.network.state_dict().items():
            self.note(f'{name} {when} the step', value)

    def close(self) -> None:
        for handle in self.handles:
            handle.remove()


def describe(x: Tensor) -> str:
    nan, infinite = x.isnan().sum().item(), x.isinf().sum().item()
    return f'{nan} NaN and {infinite} infinite of {x.numel()} values'
