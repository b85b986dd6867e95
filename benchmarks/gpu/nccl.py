"""Piece h: NCCL with one process, as far as one card can show it.

One process cannot show that several agree. It shows that the backend starts, that each collective
that methods use runs on the device, and that DistributedDataParallel with our settings, and FSDP,
give the gradients of the plain model.
"""

import socket

import torch
import torch.distributed as dist
from session import DEVICE, ROOT, Session
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ssl_zoo.build import build_method
from ssl_zoo.config.loading import load_config
from ssl_zoo.distributed.collectives import all_gather, all_reduce_sum, broadcast
from ssl_zoo.distributed.sharding import shard
from ssl_zoo.engine.timed_step import synthetic_batch

BACKEND = 'nccl' if DEVICE.type == 'cuda' else 'gloo'


def run(session: Session) -> None:
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    dist.init_process_group(BACKEND, f'tcp://127.0.0.1:{port}', rank=0, world_size=1)
    try:
        session.part('backend', 0, lambda: dict(backend=BACKEND, version=_version()))
        session.part('collectives', 0, collectives)
        session.part('DistributedDataParallel', 0, lambda: against_plain(_with_ddp))
        session.part('FSDP', 0, lambda: against_plain(_with_fsdp))
    finally:
        dist.destroy_process_group()


def _version() -> str | None:
    return '.'.join(map(str, torch.cuda.nccl.version())) if DEVICE.type == 'cuda' else None


def collectives() -> dict:
    """Call each collective on a tensor of the device; with one process it returns its input."""
    x = torch.randn(64, 32, device=DEVICE, requires_grad=True)
    gathered = all_gather(x)
    gathered.square().sum().backward()
    return dict(
        all_gather=bool(gathered.equal(x)),
        gradient_through_all_gather=bool(x.grad.allclose(2 * x)),
        all_reduce_sum=bool(all_reduce_sum(x.detach().clone()).equal(x)),
        broadcast=bool(broadcast(x.detach().clone()).equal(x)),
    )


def against_plain(wrap) -> dict:
    """Return the largest difference of loss and gradients between a wrapped and a plain BYOL."""
    plain_loss, plain = _gradients(lambda method: method)
    loss, wrapped = _gradients(wrap)
    largest = max(g.abs().max().item() for g in plain)
    difference = max((a - b).abs().max().item() for a, b in zip(wrapped, plain, strict=True))
    return dict(
        loss_difference=abs(loss - plain_loss),
        gradient_difference=difference / largest,
        parameters=len(plain),
    )


def _gradients(wrap) -> tuple[float, list[torch.Tensor]]:
    """Compute loss and gradients of a step of configs/byol/digits.py on fixed pixels."""
    settings = load_config(ROOT / 'configs/byol/digits.py')
    torch.manual_seed(0)
    method = build_method(settings).to(DEVICE).train()
    batch = synthetic_batch(settings, 16)
    data = method.data_preprocessor(batch)
    model = wrap(method)
    loss = model(data['views'], index=data['index'])['loss']
    loss.backward()
    gradients = [p.grad for p in method.parameters() if p.grad is not None]
    whole = [g.full_tensor() if hasattr(g, 'full_tensor') else g for g in gradients]
    return loss.item(), [g.detach().float() for g in whole]


def _with_ddp(method: nn.Module) -> nn.Module:
    return DistributedDataParallel(
        method,
        device_ids=[DEVICE] if DEVICE.type == 'cuda' else None,
        broadcast_buffers=False,
        gradient_as_bucket_view=True,
    )


def _with_fsdp(method: nn.Module) -> nn.Module:
    networks = [backbone for backbone, _ in method.networks.values()]
    shard(method, networks, DEVICE)
    return method
