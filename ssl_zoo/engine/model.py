"""Build a method and the model that trains it."""

import torch
from torch import nn

from ssl_zoo.build import build_method
from ssl_zoo.config.settings import Settings
from ssl_zoo.distributed.wrap_model import wrap_model
from ssl_zoo.engine.compile import compile_backbones
from ssl_zoo.engine.initial_weights import InitialWeights
from ssl_zoo.engine.plan import Plan, uses_sync_batchnorm
from ssl_zoo.engine.recompute import recompute_activations
from ssl_zoo.method import Method


def build_model(
    settings: Settings, plan: Plan, device: torch.device, initial: InitialWeights | None = None
) -> tuple[Method, nn.Module]:
    """Build the method of a run and wrap it for its processes.

    Args:
        settings: settings of the run.
        plan: plan of the run.
        device: device of the method.
        initial: weights to begin with; None for those of ``build_method``.

    Returns:
        The method on its device; and the model to call, the method itself or its DDP wrapper.

    Raises:
        ConfigError: a mistake in the settings of the method, or too few images per process.
    """
    method = build_method(settings, microbatch_images=plan.micro_batch)
    if initial is not None:
        initial.load_into(method)
    transform_backbones(method, settings, device)
    model = wrap_model(
        method,
        device,
        strategy=settings.parallel.strategy,
        sync_batchnorm=uses_sync_batchnorm(settings, method),
        device_batch=plan.device_batch,
        unused_parameters=method.unused_parameters,
        networks=[backbone for backbone, _ in method.networks.values()],
    )
    return method, model


def transform_backbones(method: Method, settings: Settings, device: torch.device) -> None:
    """Apply ``settings.recompute`` and ``settings.compile`` to a method, in place."""
    if settings.recompute:
        # Only the trained network: its moving average has no backward pass.
        online_backbone, _ = method.networks['online']
        recompute_activations(method.get_submodule(online_backbone))
    if settings.compile:
        compile_backbones(method, device, settings.compile)
