"""Two processes with sharded parameters do what two with DistributedDataParallel do, and hold half
as much each.
"""

import copy
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from ssl_zoo.distributed import global_norms, local_shards
from ssl_zoo.distributed.sharding import _blocks, full_state, load_full_state, shard
from ssl_zoo.engine.optim_wrapper import ZooOptimWrapper, _limit_norms
from ssl_zoo.optim import parameter_groups
from ssl_zoo.registry import METHODS, OPTIMIZERS

pytestmark = pytest.mark.long

RESNET = dict(name='resnet18', stem='cifar', width=0.125, layers=[1, 2, 1, 1])
VIT = dict(
    name='vit_tiny_patch16_224', img_size=16, patch_size=4, embed_dim=24, num_heads=3, depth=2
)
BYOL = dict(type='BYOL', backbone=RESNET, hidden_dim=18, proj_dim=9, base_ema=0.9)
LARS = dict(type='LARS', lr=0.5, trust_coefficient=0.1)
ADAMW = dict(type='AdamW', lr=1e-2)
# method, optimizer, sizes of the views, and what is not as usual
CASES = dict(
    byol=(BYOL, LARS, (16, 16), {}),
    accumulate_channels_last=(BYOL, LARS, (16, 16), dict(accumulate=2, channels_last=True)),
    bf16=(BYOL, LARS, (16, 16), dict(precision='bf16')),
    swav=(
        dict(
            type='SwAV',
            backbone=RESNET,
            hidden_dim=16,
            proj_dim=8,
            prototypes=7,
            queue_size=8,
            queue_from_epoch=0,
        ),
        dict(LARS, larc=True),
        (16, 16, 12),
        {},
    ),
    moco=(
        dict(type='MoCo', backbone=RESNET, hidden_dim=16, proj_dim=8, queue_size=13, decay=0.9),
        dict(type='SGD', lr=0.1, momentum=0.9),
        (16, 16),
        {},
    ),
    dino=(
        dict(
            type='DINO',
            backbone={**VIT, 'dynamic_img_size': True},
            hidden_dim=16,
            bottleneck_dim=8,
            prototypes=15,
            base_ema=0.9,
            norm_last_layer=False,
        ),
        ADAMW,
        (16, 16, 8),
        dict(clip_grad=0.01),
    ),
    mocov3=(
        dict(type='MoCoV3', backbone={**VIT, 'fixed_patches': True}, hidden_dim=16, proj_dim=8),
        ADAMW,
        (16, 16),
        {},
    ),
)
STEPS, BATCH = 3, 4


def backbones(method):
    return [path for path, _ in method.networks.values()]


class Run:
    """A method in training on two processes, sharded or with DistributedDataParallel."""

    def __init__(self, case: str, sharded: bool, seed: int = 0):
        method, optimizer, self.sizes, unusual = CASES[case]
        self.settings = SimpleNamespace(
            **{
                **dict(accumulate=1, precision='float32', clip_grad=None, channels_last=False),
                **unusual,
            }
        )
        self.dtype = torch.float32 if self.settings.precision == 'bf16' else torch.float64
        torch.manual_seed(100 * seed + dist.get_rank())  # that of rank 0 is the one that counts
        self.method = METHODS.create(method).to(self.dtype)
        if self.settings.channels_last:
            self.method.to(memory_format=torch.channels_last)
        if sharded:
            self.network = shard(self.method, backbones(self.method), 'cpu')
        else:
            self.network = DistributedDataParallel(self.method)
        self.optimizer = OPTIMIZERS.create(optimizer, params=parameter_groups(self.method, 1e-3))
        self.wrapper = ZooOptimWrapper(
            self.optimizer, self.method, self.settings, self.settings.accumulate
        )
        self.sharded, self.losses = sharded, []
        self.method.train()

    def step(self, step: int) -> None:
        self.method.progress, self.method.epoch = (
            step / STEPS,
            float(step),
        )  # in the first epoch some rest
        for i in range(self.settings.accumulate):
            torch.manual_seed(1000 + 10 * step + i)  # what MoCo shuffles by
            views = [
                torch.randn(2, BATCH, 3, size, size, dtype=self.dtype)[dist.get_rank()]
                for size in self.sizes
            ]
            if self.settings.channels_last:
                views = [view.contiguous(memory_format=torch.channels_last) for view in views]
            if self.sharded:
                self.losses.append(self.network.train_step(dict(views=views), self.wrapper)['loss'])
            else:
                with self.wrapper.optim_context(self.method):
                    loss = self.network(views=views)['loss']
                self.wrapper.update_params(loss)
                self.losses.append(loss.detach())
        self.method.after_step()

    def state(self) -> dict:
        return dict(
            method=full_state(self.method.state_dict()),
            optimizer=full_state(self.optimizer.state_dict()),
        )

    def load(self, state: dict) -> None:
        load_full_state(self.method, state['method'])
        load_full_state(self.optimizer, state['optimizer'])

    def held(self) -> dict[str, tuple[int, int]]:
        """Name of a parameter, or what belongs to it in the optimizer -> numbers held here, numbers
        in all.
        """
        tensors = dict(self.method.named_parameters())
        for group in self.optimizer.param_groups:
            for name, p in zip(group['names'], group['params'], strict=True):
                tensors.update(
                    {
                        f'{key} of {name}': value
                        for key, value in self.optimizer.state[p].items()
                        if value.ndim
                    }
                )
        return {
            name: (t.to_local().numel() if isinstance(t, DTensor) else t.numel(), t.numel())
            for name, t in tensors.items()
        }


def run_case(case: str, folder: str) -> dict:
    """All that is asked of a case, with the states of checkpoints passed through files that rank 0
    writes.
    """

    def saved(state: dict, name: str) -> dict:
        if dist.get_rank() == 0:
            torch.save(state, f'{folder}/{case}_{name}.pth')
        dist.barrier()
        return torch.load(f'{folder}/{case}_{name}.pth', weights_only=True)

    runs = {name: Run(case, name == 'sharded') for name in ('ddp', 'sharded')}
    out = dict(
        start={name: saved(run.state(), f'{name}_start') for name, run in runs.items()},
        losses={},
        end={},
    )
    at_two = {}
    for name, run in runs.items():
        for step in range(STEPS):
            run.step(step)
            if step == STEPS - 2:
                at_two[name] = saved(run.state(), f'{name}_2')
        out['losses'][name], out['end'][name] = run.losses, saved(run.state(), f'{name}_end')
    out['held'] = runs['sharded'].held()
    for name, before in (('sharded', 'ddp'), ('ddp', 'sharded'), ('sharded', 'sharded')):
        run, untouched = (
            Run(case, name == 'sharded', seed=1),
            torch.load(f'{folder}/{case}_{before}_2.pth', weights_only=True),
        )
        run.load(at_two[before])
        loaded = copy.deepcopy(run.state())
        run.step(STEPS - 1)
        key = f'{before} to {name}'
        out[key] = dict(
            loaded=loaded,
            read=untouched,
            kept=at_two[before],
            losses=run.losses,
            end=saved(run.state(), key),
        )
    return out


def look_inside() -> dict:
    """What is whole when, in a pass; norms of parts; what is refused."""
    run, out = Run('byol', sharded=True), {}
    method, whole = run.method, {}
    paths = [path for path, _ in method.networks.values()]

    def look(moment):
        whole[moment] = [
            [
                not isinstance(p, DTensor)
                for block in _blocks(method.get_submodule(path))
                for p in block.parameters()
            ]
            for path in paths
        ]

    first = method.online.backbone.layer1[0]
    first.bn1.register_forward_hook(lambda *_: look('in the first block'))
    images = [torch.randn(BATCH, 3, 16, 16, dtype=torch.float64) for _ in range(2)]
    loss = method(images)['loss']
    look('after forward')
    loss.backward()
    look('after backward')
    out['whole'], out['in first'] = whole, len(list(first.parameters()))
    out['blocks'] = [len(_blocks(method.get_submodule(path))) for path in paths]
    gradients = [p.grad for p in method.parameters() if p.requires_grad]
    before = [g.full_tensor() for g in gradients]
    out['norms'] = global_norms(*local_shards(gradients)), [g.norm() for g in before]
    _limit_norms(gradients, 0.05)
    out['limited'] = [g.full_tensor() for g in gradients], before
    for name, refused in (
        ('twice', lambda: shard(method, paths, 'cpu')),
        (
            'other method',
            lambda: load_full_state(
                method, {'online.backbone.conv1.weight': torch.zeros(2, 3, 3, 3)}
            ),
        ),
        (
            'other optimizer',
            lambda: load_full_state(run.optimizer, dict(state={}, param_groups=[])),
        ),
    ):
        try:
            refused()
        except (ValueError, RuntimeError) as error:
            out[name] = str(error)
    return out


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group('gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2)
    try:
        out = {case: run_case(case, folder) for case in CASES}
        out['inside'] = look_inside()
        torch.save(out, f'{folder}/{rank}.pt')
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope='module')
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp('sharding')
    # The fork server of conftest.py has imported torch.
    mp.start_processes(work, args=(str(folder),), nprocs=2, start_method='forkserver')
    return [torch.load(folder / f'{rank}.pt', weights_only=True) for rank in (0, 1)]


def same(a, b, case: str) -> None:
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            same(a[key], b[key], case)
    elif isinstance(a, torch.Tensor) and case == 'bit for bit':
        assert torch.equal(a, b)
    elif isinstance(a, torch.Tensor) and case == 'bf16':
        torch.testing.assert_close(a, b, rtol=1e-2, atol=1e-3)
    elif isinstance(a, torch.Tensor):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)
    else:
        assert a == b


@pytest.mark.parametrize('case', CASES)
def test_three_steps_equal_those_with_ddp(two, case):
    for part in two:
        start, end, losses = (part[case][key] for key in ('start', 'end', 'losses'))
        same(start['sharded'], start['ddp'], 'bit for bit')  # of rank 0, though rank 1 drew others
        same(end['sharded'], end['ddp'], case)  # names, weights, averages, queues, optimizer state
        assert len(losses['ddp']) == STEPS * CASES[case][3].get('accumulate', 1)
        for a, b in zip(losses['sharded'], losses['ddp'], strict=True):
            same(a, b, case)
        weights = [
            (start['ddp']['method'][name], value) for name, value in end['ddp']['method'].items()
        ]
        assert sum(not torch.equal(a, b) for a, b in weights) > 0.8 * len(weights)
    assert not torch.equal(*(part[case]['losses']['ddp'][0] for part in two))


@pytest.mark.parametrize('case', CASES)
def test_each_process_holds_about_half_of_weights_averages_and_optimizer_state(two, case):
    first, second = (part[case]['held'] for part in two)
    assert list(first) == list(second)
    for name, (held, whole) in first.items():
        assert held + second[name][0] == whole, name
    method = CASES[case][0]['type']
    target = dict(
        BYOL='target.', DINO='teacher.', MoCo='key.', MoCoV3='momentum.', SwAV='prototypes'
    )[method]
    for kind in (
        '',
        target,
        'exp_avg_sq of' if 'exp_avg_sq of' in ' '.join(first) else 'momentum_buffer of',
    ):
        held, whole = (
            sum(counts[i] for name, counts in first.items() if name.startswith(kind))
            for i in (0, 1)
        )
        assert whole > 0 and 0.45 < held / whole < 0.6, kind


@pytest.mark.parametrize('change', ['ddp to sharded', 'sharded to ddp', 'sharded to sharded'])
@pytest.mark.parametrize('case', CASES)
def test_a_checkpoint_goes_on_sharded_or_not(two, case, change):
    for part in two:
        seen = part[case][change]
        same(seen['loaded'], seen['read'], 'bit for bit')
        same(
            seen['kept'], seen['read'], 'bit for bit'
        )  # training does not write into what was loaded
        same(seen['end'], part[case]['end']['ddp'], case)
        for a, b in zip(
            seen['losses'], part[case]['losses']['ddp'][-len(seen['losses']) :], strict=True
        ):
            same(a, b, case)


def test_blocks_are_whole_one_by_one(two):
    for part in two:
        inside = part['inside']
        assert inside['blocks'] == [5, 5]
        online, target = inside['whole']['in the first block']
        assert sum(online) == inside['in first'] and not any(target)
        for moment in ('after forward', 'after backward'):
            assert not any(any(network) for network in inside['whole'][moment])


def test_norms_are_those_of_whole_tensors(two):
    for part in two:
        torch.testing.assert_close(*map(torch.stack, part['inside']['norms']))
        limited, before = part['inside']['limited']
        assert max(g.norm() for g in before) > 0.05
        for g, was in zip(limited, before, strict=True):
            torch.testing.assert_close(g, was * min(1, 0.05 / (was.norm().item() + 1e-6)))


def test_mistakes_get_a_sentence(two):
    for part in two:
        assert 'sharded already' in part['inside']['twice']
        assert (
            'size mismatch' in part['inside']['other method']
            and 'Missing key' in part['inside']['other method']
        )
        assert 'parameter groups' in part['inside']['other optimizer']


def test_without_a_process_group():
    method = METHODS.create(BYOL)
    with pytest.raises(ValueError, match='process group'):
        shard(method, backbones(method))
    state = method.state_dict()
    other = METHODS.create(BYOL)
    load_full_state(other, full_state(state))  # both do for a run that is not sharded
    assert all(torch.equal(value, state[name]) for name, value in other.state_dict().items())
