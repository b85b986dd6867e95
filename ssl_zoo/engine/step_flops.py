"""Count the floating-point operations of an optimizer step, without computing it."""

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from ssl_zoo.build import build_method
from ssl_zoo.engine.plan import Plan


def step_flops(plan: Plan) -> int:
    """Count the operations of one optimizer step of a run, over all its passes.

    torch's FlopCounterMode counts convolutions and matrix products, forward and backward, two
    operations for a multiplication and its addition. It leaves out what is small beside them:
    views, norms, activations, the update of the weights and of a moving average. The tensors are
    torch's fake tensors, which have a shape and no values: nothing is computed. A compiled step has
    the same number.

    Args:
        plan: plan of the run.
    """
    settings = plan.settings
    method = build_method(settings, pretrained=False, microbatch_images=plan.micro_batch).train()
    method.progress = 0.5
    method.epoch = settings.epochs / 2
    weights = [p for p in method.parameters() if p.requires_grad]
    n = plan.micro_batch
    with FakeTensorMode(allow_non_fake_inputs=True), FlopCounterMode(display=False) as counter:
        views = [torch.empty(n, 3, view.size, view.size) for view in settings.build_views()]
        loss = method(views, index=torch.zeros(n, dtype=torch.int64))['loss']
        torch.autograd.grad(loss, weights, allow_unused=True)
    return counter.get_total_flops() * plan.accumulate
