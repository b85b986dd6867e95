"""Losses over two processes equal the loss on the global batch: values, and gradients after DDP's
average.
"""

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from ssl_zoo.distributed import collectives
from ssl_zoo.distributed.batchnorm import shuffle_bn
from ssl_zoo.losses import info_nce, l2_normalize, mask_self, off_diagonal

N, D = 8, 5


def z1_z2(dtype=torch.float64):
    torch.manual_seed(3)
    return torch.randn(N, D, dtype=dtype), torch.randn(N, D, dtype=dtype)


def losses():
    """Name -> function of this process's rows of both views."""
    from ssl_zoo.methods.barlow_twins import redundancy
    from ssl_zoo.methods.byol_ablation import repulsion
    from ssl_zoo.methods.dcl import dcl_loss
    from ssl_zoo.methods.simclr import nt_xent
    from ssl_zoo.methods.vicreg import covariance, variance

    def barlow(a, b):
        return redundancy(
            collectives.all_reduce_sum(a.T @ b) / (len(a) * collectives.world_size()), 0.005
        )

    def vicreg(a, b):
        a_all, b_all = collectives.all_gather(a), collectives.all_gather(b)
        return (a - b).square().mean() + variance(a_all) + covariance(b_all)

    return dict(
        simclr=lambda a, b: nt_xent(a, b, 0.2),
        dcl=lambda a, b: dcl_loss(a, b, 0.2),
        dclw=lambda a, b: dcl_loss(a, b, 0.2, 0.5),
        info_nce=lambda a, b: info_nce(l2_normalize(a), l2_normalize(b), 0.2),
        barlow=barlow,
        vicreg=vicreg,
        repulsion=lambda a, b: repulsion(a, a, b, 0.3),
    )


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group('gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2)
    try:
        rows = slice(rank, None, 2)  # image i of the batch is on process i % 2
        out = {}
        for name, loss in losses().items():
            a, b = (z[rows].clone().requires_grad_() for z in z1_z2())
            value = loss(a, b)
            value.backward()
            out[name] = value.detach(), a.grad, b.grad
        x = torch.arange(N, dtype=torch.float32).view(N, 1)[rows]
        met = []
        out['shuffle_bn'] = (
            shuffle_bn(lambda images: (met.append(images.clone()), images * 10)[1], x),
            met[0],
        )
        shared = [torch.ones(2, requires_grad=True) for _ in range(2)]
        (
            collectives.all_gather(shared[0]) + collectives.all_gather(shared[1])
        ).square().sum().backward()
        out['shared'] = [z.grad for z in shared]
        out['local_rows'] = collectives.local_rows(N // 2), mask_self(torch.zeros(N // 2, N))
        torch.save(out, f'{folder}/{rank}.pt')
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope='module')
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp('gloo')
    # The fork server of conftest.py has imported torch.
    mp.start_processes(work, args=(str(folder),), nprocs=2, start_method='forkserver')
    return [torch.load(folder / f'{rank}.pt') for rank in (0, 1)]


def woven(parts):
    """Rows of two processes in the order of the global batch."""
    return torch.stack(list(parts), 1).flatten(0, 1)


@pytest.mark.parametrize('name', list(losses()))
def test_two_processes_equal_one(two, name):
    a, b = (z.requires_grad_() for z in z1_z2())
    value = losses()[name](a, b)
    value.backward()
    values, grads_a, grads_b = zip(*(part[name] for part in two), strict=True)
    torch.testing.assert_close(sum(values) / 2, value.detach())
    torch.testing.assert_close(
        woven(grads_a) / 2, a.grad
    )  # DDP divides the sum over processes by their number
    torch.testing.assert_close(woven(grads_b) / 2, b.grad)


def test_shuffle_bn_deals_images_over_processes_and_brings_outputs_back(two):
    assert woven([part['shuffle_bn'][0] for part in two]).flatten().tolist() == [
        10.0 * i for i in range(N)
    ]
    met = [part['shuffle_bn'][1].flatten().tolist() for part in two]
    assert sorted(met[0] + met[1]) == list(range(N)) and sorted(met[0]) != [0, 2, 4, 6]


def test_two_gathers_that_share_a_gradient(two):
    for part in two:
        assert [grad.tolist() for grad in part['shared']] == [
            [8.0, 8.0],
            [8.0, 8.0],
        ]  # 2 (1 + 1) from each process


def test_local_rows(two):
    assert [part['local_rows'][0].tolist() for part in two] == [[0, 2, 4, 6], [1, 3, 5, 7]]
    for part in two:
        infinite = part['local_rows'][1].isinf().nonzero()[:, 1].tolist()
        assert infinite == part['local_rows'][0].tolist()


def test_one_process_needs_no_group():
    x = torch.randn(4, 3)
    assert collectives.world_size() == 1 and collectives.rank() == 0
    assert collectives.all_gather(x) is x and collectives.all_reduce_sum(x) is x
    torch.testing.assert_close(shuffle_bn(lambda images: images * 2, x), x * 2)


def test_off_diagonal():
    assert off_diagonal(torch.arange(9).view(3, 3)).tolist() == [1, 2, 3, 5, 6, 7]
