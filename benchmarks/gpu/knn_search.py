"""Piece g: the search of the nearest neighbours, by FAISS as evaluations do it, and on the GPU.

The features are random, which takes as long as features of images.
"""

import time
from collections.abc import Callable

import faiss
import numpy as np
import torch
from session import DEVICE, Session, wait

from ssl_zoo.evaluation.knn import exact_neighbours

SIZES = {  # rows of the bank, queries, dimensions, k
    'CIFAR-10': (50_000, 10_000, 512, 200),
    'a tenth of ImageNet': (128_117, 50_000, 2048, 20),
    'ImageNet': (1_281_167, 50_000, 2048, 20),
}
ON_CPU = ('CIFAR-10', 'a tenth of ImageNet')  # FAISS without a GPU takes minutes for ImageNet
PARTS = 16  # parts of the bank: one part's table of cosines lies in memory


def run(session: Session) -> None:
    for name, size in SIZES.items():
        rows, queries, dimensions, k = (max(n // 200, 8) for n in size) if session.small else size
        with_faiss = name in ON_CPU or faiss.get_num_gpus() > 0
        session.part(name, 30, lambda s=(rows, queries, dimensions, k), f=with_faiss: search(*s, f))


def search(rows: int, queries: int, dimensions: int, k: int, with_faiss: bool) -> dict:
    """Time both searches, and count on how many neighbours they agree."""
    generator = torch.Generator().manual_seed(0)
    bank = torch.randn(rows, dimensions, generator=generator).half()
    query = torch.randn(queries, dimensions, generator=generator).half()
    figures: dict = dict(rows=rows, queries=queries, dimensions=dimensions, k=k)
    on_device = _normalised(bank), _normalised(query)
    seconds, found = _timed(lambda: torch_neighbours(*on_device, k))
    figures['torch_seconds'] = seconds
    if DEVICE.type == 'cuda':
        figures['torch_memory_gb'] = torch.cuda.max_memory_allocated() / 1e9
    if with_faiss:
        arrays = bank.numpy(), query.numpy()
        seconds, (_, positions) = _timed(lambda: exact_neighbours(*arrays, k))
        figures |= dict(faiss_seconds=seconds, faiss_gpus=faiss.get_num_gpus())
        same = sum(
            len(np.intersect1d(a, b)) for a, b in zip(positions[:500], found[:500], strict=True)
        )
        figures['agreement'] = same / positions[:500].size
    return figures


def _normalised(features: torch.Tensor) -> torch.Tensor:
    """(N, D) float16 -> rows of length 1, float16, on the device."""
    return torch.nn.functional.normalize(features.to(DEVICE).float(), dim=1).half()


def torch_neighbours(bank: torch.Tensor, queries: torch.Tensor, k: int) -> np.ndarray:
    """Find the k nearest rows by cosine in half precision: (N, D), (M, D) -> (M, k) positions."""
    found = []
    for part in queries.split(1024):
        best = torch.empty(len(part), 0, device=part.device)
        positions = torch.empty(len(part), 0, dtype=torch.int64, device=part.device)
        start = 0
        for rows in bank.chunk(PARTS):
            cosines = (part @ rows.T).float()  # (queries, rows)
            top, where = cosines.topk(min(k, len(rows)), dim=1)
            best = torch.cat([best, top], dim=1)
            positions = torch.cat([positions, where + start], dim=1)
            start += len(rows)
        order = best.topk(k, dim=1).indices
        found.append(positions.gather(1, order).cpu())
    return torch.cat(found).numpy()


def _timed(function: Callable[[], object]) -> tuple[float, object]:
    wait()
    started = time.perf_counter()
    result = function()
    wait()
    return time.perf_counter() - started, result
