"""DeepMind's BYOL: the imported network against haiku's ResNet v1 written out in numpy, float64,
height x width x channels."""

import collections
import pickle
import sys
import types

import numpy as np
import pytest
import torch

from ssl_zoo.backbones import build_backbone
from ssl_zoo.build import load_method
from ssl_zoo.errors import ConfigError
from ssl_zoo.interop.import_checkpoint import import_checkpoint

WIDTH, DEPTHS = 8, (2, 1, 1, 1)  # channels of the stem: an eighth of ResNet-50's


def windows(x, kernel, stride, fill):
    """TensorFlow's SAME: as many outputs as ceil(size / stride), what lacks is padded, the odd
    pixel at the bottom and right."""
    (h, w), padded = x.shape[:2], x
    for axis, size in ((0, h), (1, w)):
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        pad = [(0, 0)] * 3
        pad[axis] = (total // 2, total - total // 2)
        padded = np.pad(padded, pad, constant_values=fill)
    for i in range(-(-h // stride)):
        for j in range(-(-w // stride)):
            yield i, j, padded[i * stride : i * stride + kernel, j * stride : j * stride + kernel]


def conv(x, w, stride):
    out = np.zeros((-(-x.shape[0] // stride), -(-x.shape[1] // stride), w.shape[3]))
    for i, j, window in windows(x, w.shape[0], stride, 0.0):
        out[i, j] = np.einsum('hwc,hwcd->d', window, w)
    return out


def max_pool(x):
    out = np.zeros((-(-x.shape[0] // 2), -(-x.shape[1] // 2), x.shape[2]))
    for i, j, window in windows(x, 3, 2, -np.inf):
        out[i, j] = window.max((0, 1))
    return out


def norm(x, params, state, module):
    mean, var = (
        state[f'{module}/~/{kind}_ema']['average'].astype(float).reshape(-1)
        for kind in ('mean', 'var')
    )
    scale, offset = (params[module][key].astype(float).reshape(-1) for key in ('scale', 'offset'))
    return (x - mean) / np.sqrt(var + 1e-5) * scale + offset


def relu(x):
    return np.maximum(x, 0.0)


def resnet(x, params, state):
    """(H, W, 3) -> features."""

    def layer(x, name, kind, stride=1):
        return norm(
            conv(
                x, params[f'{name}{kind}'.replace('batchnorm', 'conv')]['w'].astype(float), stride
            ),
            params,
            state,
            f'{name}{kind}'.replace('conv', 'batchnorm'),
        )

    x = max_pool(relu(layer(x, 'res_net50/~/initial_', 'conv', 2)))
    for group, depth in enumerate(DEPTHS):
        for block in range(depth):
            stride = 2 if group > 0 and block == 0 else 1
            path = f'res_net50/~/block_group_{group}/~/block_{block}/~/'
            shortcut = layer(x, path + 'shortcut_', 'conv', stride) if block == 0 else x
            out = relu(layer(x, path, 'conv_0'))
            out = relu(
                layer(out, path, 'conv_1', stride)
            )  # haiku's bottleneck strides in its 3x3 convolution
            x = relu(layer(out, path, 'conv_2') + shortcut)
    return x.mean((0, 1))


def projector(x, params, state):
    x = x @ params['projector/linear']['w'].astype(float) + params['projector/linear']['b'].astype(
        float
    )
    return relu(norm(x, params, state, 'projector/batch_norm')) @ params['projector/linear_1'][
        'w'
    ].astype(float)


def drawn(rng) -> tuple[dict, dict]:
    """Parameters and state of a network, by haiku's names."""
    params, state = {}, {}

    def weight(name, *shape):
        params[name] = dict(w=rng.normal(0, np.prod(shape[:-1]) ** -0.5, shape).astype('f4'))

    def batchnorm(name, channels, *lead):
        shape = (*lead, channels)
        params[name] = dict(
            scale=rng.uniform(0.5, 1.5, shape).astype('f4'),
            offset=rng.normal(0, 0.3, shape).astype('f4'),
        )
        for kind, values in (
            ('mean', rng.normal(0, 0.3, shape)),
            ('var', rng.uniform(0.5, 1.5, shape)),
        ):
            average = values.astype('f4')
            state[f'{name}/~/{kind}_ema'] = dict(
                counter=np.asarray(7, 'i4'), hidden=average * np.float32(0.07), average=average
            )

    weight('res_net50/~/initial_conv', 7, 7, 3, WIDTH)
    batchnorm('res_net50/~/initial_batchnorm', WIDTH, 1, 1, 1)
    inputs = WIDTH
    for group, depth in enumerate(DEPTHS):
        inner, outer = WIDTH << group, WIDTH * 4 << group
        for block in range(depth):
            path = f'res_net50/~/block_group_{group}/~/block_{block}/~/'
            parts = [
                ('', '_0', 1, inputs, inner),
                ('', '_1', 3, inner, inner),
                ('', '_2', 1, inner, outer),
            ]
            for name, i, kernel, a, b in parts + [('shortcut_', '', 1, inputs, outer)] * (
                block == 0
            ):
                weight(f'{path}{name}conv{i}', kernel, kernel, a, b)
                batchnorm(f'{path}{name}batchnorm{i}', b, 1, 1, 1)
            inputs = outer
    for head, dims in (('projector', (inputs, 16, 8)), ('predictor', (8, 16, 8))):
        weight(f'{head}/linear', dims[0], dims[1])
        params[f'{head}/linear']['b'] = rng.normal(0, 0.3, dims[1]).astype('f4')
        batchnorm(f'{head}/batch_norm', dims[1], 1)
        weight(f'{head}/linear_1', dims[1], dims[2])
    weight('classifier', inputs, 10)
    return params, state


@pytest.fixture
def modules():
    """haiku's, jax's and byol's classes under their own names, for pickle to find while it
    writes."""

    def made(name, **items):
        for i in range(len(parts := name.split('.'))):
            sys.modules.setdefault(
                '.'.join(parts[: i + 1]), types.ModuleType('.'.join(parts[: i + 1]))
            )
        for key, item in items.items():
            item.__module__, item.__qualname__ = name, key
            setattr(sys.modules[name], key, item)

    class FlatMapping:
        def __init__(self, mapping):
            self.mapping = mapping

        def __reduce__(self):
            return FlatMapping, (self.mapping,)

    def _reconstruct_array(fun, args, arr_state, aval_state):
        raise AssertionError('the reader must not call it')

    class ArrayImpl:
        def __init__(self, value):
            self.value = value

        def __reduce__(self):
            fun, args, state = self.value.__reduce__()
            return _reconstruct_array, (fun, args, state, dict(weak_type=False))

    fields = ['online_params', 'target_params', 'online_state', 'target_state', 'opt_state']
    before = set(sys.modules)
    state = collections.namedtuple('_ByolExperimentState', fields)
    made('byol.byol_experiment', _ByolExperimentState=state)
    made('haiku._src.data_structures', FlatMapping=FlatMapping)
    made('jax._src.array', _reconstruct_array=_reconstruct_array)
    yield types.SimpleNamespace(State=state, FlatMapping=FlatMapping, Array=ArrayImpl)
    for name in set(sys.modules) - before:
        if name.split('.')[0] in ('byol', 'haiku', 'jax'):
            del sys.modules[name]


@pytest.fixture
def written(modules, tmp_path):
    """Function: (file, online's parameters and state, target's), as byol/utils/checkpointing.py
    writes it."""

    def write(protocol=2, wrap=lambda x: x, state=None):
        rng = np.random.default_rng(0)
        online, target = drawn(rng), drawn(rng)

        def haiku(tree):
            inner = {
                name: {key: wrap(value) for key, value in values.items()}
                for name, values in tree.items()
            }
            return modules.FlatMapping(
                {name: modules.FlatMapping(values) for name, values in inner.items()}
            )

        made = modules.State(
            haiku(online[0]),
            haiku(target[0]),
            haiku(online[1]),
            haiku(target[1]),
            dict(mu=haiku(online[0])),
        )
        content = dict(experiment_state=made, step=312500, rng=wrap(np.zeros((8, 2), 'u4')))
        (tmp_path / 'pretrain_res50x1.pkl').write_bytes(pickle.dumps(content, protocol))
        return tmp_path / 'pretrain_res50x1.pkl', online, target

    return write


@pytest.mark.parametrize('size', [32, 30, 23])
def test_the_imported_networks_are_haikus(written, tmp_path, size):
    file, online, target = written()
    report = import_checkpoint(file, tmp_path / 'out')
    method, settings, step = load_method(report.path)
    assert (
        settings.method['backbone']
        == dict(name='resnet50', layers=[2, 1, 1, 1], width=0.125, padding='same')
        and step == 312500
    )
    assert settings.data.mean == (0.485, 0.456, 0.406) and settings.eval_geometry() == (
        224,
        256,
    )  # byol/utils/dataset.py
    assert any(
        'online predictor' in line and 'online classifier' in line and 'opt_state' in line
        for line in report.lines
    )
    method.double()
    image = np.random.default_rng(1).normal(size=(size, size, 3))
    x = torch.from_numpy(image.transpose(2, 0, 1))[None]
    outputs = {}
    for role, (params, state) in dict(online=online, target=target).items():
        expected = resnet(image, params, state)
        with torch.no_grad():
            np.testing.assert_allclose(
                method.encoder(role)(x)[0].numpy(), expected, rtol=1e-9, atol=1e-9
            )
            projected = method.encoder(role, 'projector')(x)[0].numpy()
            np.testing.assert_allclose(
                projected, projector(expected, params, state), rtol=1e-9, atol=1e-9
            )
        outputs[role] = expected
    assert np.abs(outputs['online'] - outputs['target']).max() > 0.1
    other = build_backbone('resnet50', layers=[2, 1, 1, 1], width=0.125).double().eval()
    other.load_state_dict(method.online.backbone.state_dict())
    with torch.no_grad():
        distance = np.abs(other(x)[0].numpy() - outputs['online']).max()
    assert (
        distance > 0.05
    )  # SAME is not torch's symmetric padding wherever a stage meets an even size


@pytest.mark.parametrize(
    'protocol', [2, *(pytest.param(p, marks=pytest.mark.long) for p in (3, 4, 5))]
)
def test_every_protocol_and_jaxs_arrays(written, modules, tmp_path, protocol):
    first = import_checkpoint(written()[0], tmp_path / 'a').path
    for i, wrap in enumerate((lambda x: x, modules.Array, np.asfortranarray)):
        if protocol == 5 and wrap is modules.Array:
            continue  # jax's arrays are written with numpy's older way
        path = import_checkpoint(written(protocol, wrap)[0], tmp_path / f'b{i}').path
        ours, theirs = load_method(path)[0].state_dict(), load_method(first)[0].state_dict()
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_what_is_not_a_resnet_v1_is_named(modules, tmp_path):
    params, state = drawn(np.random.default_rng(0))
    for changed, sentence in (
        (dict(params, **{'res_net50/~/final_batchnorm': {}}), 'holds a ResNet v2'),
        (
            dict(params, **{'res_net50/~/initial_conv': dict(v=np.zeros(3, 'f4'))}),
            'initial_conv/v, which haiku',
        ),
        (
            {k: v for k, v in params.items() if 'block_0/~/conv_1' not in k},
            'lacks layer1.0.conv2.weight',
        ),
    ):
        (tmp_path / 'a.pkl').write_bytes(
            pickle.dumps(
                dict(experiment_state=modules.State(changed, changed, state, state, {}), step=3), 2
            )
        )
        with pytest.raises(ConfigError, match=sentence):
            import_checkpoint(tmp_path / 'a.pkl', tmp_path / 'out')
    torch.save(dict(state_dict={}), tmp_path / 'a.pth')
    with pytest.raises(ConfigError, match='has no experiment_state with online_params'):
        import_checkpoint(tmp_path / 'a.pth', tmp_path / 'out', layout='deepmind_byol')
