"""Find the first tensor of a forward and backward pass that is not finite."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn


class NonFiniteTracer:
    """Checks the tensors of a pass and records the first tensor that is not finite.

    Tensors are checked in the order in which they are computed: weights, views, outputs of layers,
    terms of the loss and gradients.

    Args:
        network: the network; until ``close`` each layer has a forward hook, each trained parameter
            a hook.

    Attributes:
        first: (position among all checked tensors, description) of the first tensor that is not
            finite; None while all are finite. All ranks check the same tensors in the same order.
    """

    def __init__(self, network: nn.Module):
        self.network = network
        self.first: tuple[int, str] | None = None
        self._checked = 0
        self._handles = [
            layer.register_forward_hook(self._output_hook(name))
            for name, layer in network.named_modules()
        ]
        self._handles += [
            parameter.register_hook(self._gradient_hook(name))
            for name, parameter in network.named_parameters()
            if parameter.requires_grad
        ]

    @property
    def description(self) -> str | None:
        """Description of the first tensor that is not finite, None if all are finite."""
        return None if self.first is None else self.first[1]

    def check(self, name: str, value: object) -> None:
        """Count one value; record it if it is the first float tensor that is not finite."""
        self._checked += 1
        if self.first is not None:
            return
        if isinstance(value, Tensor) and value.is_floating_point() and not value.isfinite().all():
            self.first = self._checked, f'{name}, {tuple(value.shape)}: {describe_values(value)}'

    def check_state(self, when: str) -> None:
        """Check parameters and buffers; ``when`` is 'before' or 'after' the step."""
        for name, value in self.network.state_dict().items():
            self.check(f'{name} {when} the step', value)

    def close(self) -> None:
        """Remove the hooks from the network."""
        for handle in self._handles:
            handle.remove()

    def _gradient_hook(self, name: str) -> Callable[[Tensor], None]:
        return lambda gradient: self.check(f'the gradient of {name}', gradient)

    def _output_hook(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        def check_output(layer: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, dict) and name == '':
                self._check_loss_terms(output)
            elif isinstance(output, dict):
                self._check_preprocessed(output)
            else:
                outputs = output if isinstance(output, (list, tuple)) else [output]
                for item in outputs:
                    self.check(f'the output of {name} ({type(layer).__name__})', item)

        return check_output

    def _check_loss_terms(self, terms: dict) -> None:
        """Check the dict that the method returns."""
        loss = terms.get('loss')
        if isinstance(loss, Tensor) and loss.isfinite().all():
            return  # a scalar that is only logged may be infinite
        for key, value in terms.items():
            self.check(f'the term {key!r} of the loss', value)

    def _check_preprocessed(self, batch: dict) -> None:
        """Check the dict that the photometric step returns."""
        for key, value in batch.items():
            items = value if isinstance(value, list) else [value]
            for number, item in enumerate(items, 1):
                self.check(f'view {number}' if key == 'views' else key, item)


def describe_values(x: Tensor) -> str:
    """Count NaN and infinite values."""
    nan = x.isnan().sum().item()
    infinite = x.isinf().sum().item()
    return f'{nan} NaN and {infinite} infinite of {x.numel()} values'
