"""Count the floating-point operations of an optimizer step, without computing it."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from ssl_zoo.build import build_method
from ssl_zoo.engine.plan import Plan


def step_flops(plan: Plan) -> int:
    """Count the operations of one optimizer step of a run, over all its passes.

    torch's FlopCounterMode counts convolutions and matrix products, forward and backward, two
    operations for a multiplication and its addition. It leaves out what is small beside them:
    views, norms, activations, the update of the weights and of a moving average. The step runs on
    the meta device, so nothing is computed, and a compiled step has the same number.

    Args:
        plan: plan of the run.
    """
    settings = plan.settings
    with torch.device('meta'):
        method = build_method(settings, pretrained=False, microbatch_images=plan.micro_batch)
        n = plan.micro_batch
        views = [torch.empty(n, 3, view.size, view.size) for view in settings.build_views()]
        index = torch.empty(n, dtype=torch.int64)
    method.train()
    method.progress = 0.5
    method.epoch = settings.epochs / 2
    with FlopCounterMode(display=False) as counter:
        method(views, index=index)['loss'].backward()
    return counter.get_total_flops() * plan.accumulate
