"""The page of a run: its parts against slow references, and the page of a tiny run."""

import base64
import io
import json
import re
import shutil
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from sklearn.metrics import confusion_matrix

from ssl_zoo.checkpoint import checkpoints_in
from ssl_zoo.cli.report import main as report_command
from ssl_zoo.config.settings import settings_from_dict
from ssl_zoo.engine.trainer import build_trainer
from ssl_zoo.errors import ConfigError
from ssl_zoo.evaluation.features import Features
from ssl_zoo.evaluation.protocols.context import EvaluationContext
from ssl_zoo.evaluation.protocols.label_free import evaluate_label_free
from ssl_zoo.reports.class_names import readable_names
from ssl_zoo.reports.leaderboard import build_leaderboard
from ssl_zoo.reports.run import page_hook
from ssl_zoo.reports.run.confusions import worst_confusions
from ssl_zoo.reports.run.facts import cost_html, facts_html
from ssl_zoo.reports.run.feature_maps import (
    as_colours,
    class_token_attention,
    feature_map,
    principal_components,
)
from ssl_zoo.reports.run.figures import results_html
from ssl_zoo.reports.run.neighbours import nearest_in_bank
from ssl_zoo.reports.run.pictures import enlarged, picture
from ssl_zoo.reports.run.records import RunRecords
from ssl_zoo.reports.run.report import write_run_report
from ssl_zoo.reports.run.sample import choose_queries, network_states

CONFIG = dict(
    method=dict(
        type='BYOL',
        backbone=dict(name='resnet18', stem='cifar', width=0.125, layers=[1, 1, 1, 1]),
        hidden_dim=32,
        proj_dim=16,
    ),
    data=dict(
        train=dict(type='Digits', split='val', size=32),
        val=40,
        test=dict(type='Digits', split='test', size=32, limit=60),
        mean=[0.5] * 3,
        std=[0.5] * 3,
    ),
    views=[dict(size=32)] * 2,
    optimizer=dict(type='LARS', momentum=0.9),
    epochs=1,
    batch_size=20,
    base_lr=1.0,
    workers=0,
    log_every=2,
    online_eval=dict(every=1),
    checkpoint=dict(every=0.25, keep=9),
)


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """A run of 7 steps on 140 digits, with checkpoints at steps 2, 4, 6 and 7."""
    folder = tmp_path_factory.mktemp('a <i>run & more')
    build_trainer(settings_from_dict(CONFIG), folder).fit()
    return folder


@pytest.fixture
def copy(run, tmp_path):
    """A copy of the run that a test may change."""
    return shutil.copytree(run, tmp_path / 'copy')


class Elements(HTMLParser):
    """The elements of a page: tag and attributes; unclosed tags are an error."""

    VOID = ('img', 'br', 'meta', 'wbr')

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.open = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def sections(text):
    """Text of each section, by anchor, without tags."""
    parts = re.split(r'<h2 id="(\w+)">', text)[1:]
    return {
        anchor: unescape(re.sub(r'<[^>]+>', ' ', content))
        for anchor, content in zip(parts[::2], parts[1::2], strict=True)
    }


@pytest.fixture(scope='module')
def page(run):
    sentences = []
    path = write_run_report(run, report=sentences.append)
    assert path == run / 'report.html' and len(sentences) == 3
    return path.read_text()


def test_the_page_names_every_result_and_every_scalar(run, page):
    text = sections(page)
    rows = [json.loads(line) for line in (run / 'results.jsonl').read_text().splitlines()]
    assert len(rows) == 4
    for row in rows:
        assert row['metric'] in text['results'] and f'{row["value"]:.2f}' in text['results']
    log = [json.loads(line) for line in (run / 'log.jsonl').read_text().splitlines()]
    for key in {key for row in log for key in row if '/' in key}:
        assert f'({key}): ' in text['curves']
    for fact in ('BYOL', 'resnet18', '140 images', 'LARS', '7 steps', torch.__version__):
        assert fact in text['facts']
    assert f'{rows[0]["seconds"]:,.1f}' in text['cost'] and '140' in text['cost']
    assert 'command' in text['reproduce'] and "type='BYOL'" in text['reproduce']


def test_the_page_is_whole_small_and_loads_nothing(page):
    found = Elements(page).found
    assert len(page) < 3e6
    images = [attributes for tag, attributes in found if tag == 'img']
    assert len(images) > 100
    assert all(image['src'].startswith('data:image/') and image['alt'] for image in images)
    assert all('scope' in attributes for tag, attributes in found if tag == 'th')
    assert {tag for tag, _ in found}.isdisjoint({'script', 'link', 'iframe', 'i'})
    anchors = {a['href'][1:] for tag, a in found if tag == 'a'}
    assert anchors == {a['id'] for tag, a in found if tag == 'h2'}


def test_the_networks_are_random_weights_half_way_and_the_newest(run, page):
    states = network_states(RunRecords.read(run))
    assert [(state.path.name, state.random_weights) for state in states] == [
        ('step_00000007.pth', True),
        ('step_00000004.pth', False),
        ('step_00000007.pth', False),
    ]
    text = sections(page)
    for state in states:
        assert f'{state.title}: ' in text['neighbours']
    same = len(re.findall('same class', text['neighbours']))
    assert same + len(re.findall('other class', text['neighbours'])) == 6 * 5 * 3 + 3
    assert 'class to' not in text['attention'] and 'a ResNet has no attention' in text['attention']


def test_the_accuracy_of_the_confusions_is_that_of_the_training(run, page):
    # All images are in the sample, so that the vote is the one of the run's own figure.
    rows = [json.loads(line) for line in (run / 'results.jsonl').read_text().splitlines()]
    [knn] = [r for r in rows if r['metric'] == 'knn_top1' and r['weights'] == 'trained']
    assert f': {knn["value"]:.2f} % (95 %' in sections(page)['confusions']


@pytest.mark.long
def test_without_labels_and_earlier_checkpoints_sentences_take_their_place(copy, tmp_path):
    folder = tmp_path / 'unlabelled'
    data = dict(CONFIG['data'], train=dict(type='Images', root=str(copy / 'images')))
    (copy / 'images').mkdir()
    rng = np.random.default_rng(0)
    for i in range(40):
        pixels = rng.integers(0, 256, (32, 32, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(copy / 'images' / f'{i}.png')
    data.update(val=None, test=None)
    config = dict(CONFIG, data=data, online_eval=dict(every=0), checkpoint=dict(every=9))
    build_trainer(settings_from_dict(config), folder).fit()
    path = write_run_report(folder, report=lambda text: None)
    text = sections(path.read_text())
    assert 'no labels, so there are no confusions' in text['confusions']
    assert 'no class is marked' in text['neighbours']
    assert 'No earlier checkpoint exists' in text['neighbours']
    assert 'training images, left out of the bank' in text['neighbours']
    assert 'There are no results' in text['results']
    assert 'was not evaluated during training' in text['curves']
    shutil.rmtree(copy / 'images')
    said = []
    text = sections(write_run_report(folder, report=said.append).read_text())
    assert 'Images are not shown: ' in text['images'] and said[-1] in text['images']


def test_a_damaged_run_is_shown_as_far_as_it_goes(copy):
    for path in checkpoints_in(copy):
        path.write_bytes(path.read_bytes()[:-50])
    hostile = '<script>alert(1)</script>\x1b[2J'
    row = dict(metric='knn_top1', value=50.0, warnings=[hostile, 7], protocol=None, n=True)
    with (copy / 'results.jsonl').open('a') as file:
        file.write(json.dumps(row) + '\nnot json\n')
    (copy / 'versions.json').write_text(json.dumps({hostile: hostile}))
    (copy / 'command.txt').write_text(hostile + '\n')
    (copy / 'config.py').write_text(f'open({str(copy / "executed")!r}, "w")\n')
    with (copy / 'train.log').open('a') as file:
        file.write('2026-01-01 00:00:00  warning: the features collapse\n')
    page = write_run_report(copy, report=lambda text: None).read_text()
    Elements(page)
    assert '<script' not in page and '\x1b' not in page
    text = sections(page)
    assert hostile.replace('\x1b', r'\x1b') in text['facts']
    assert 'the features collapse' in text['facts']
    assert 'not JSON' in text['missing'] and 'config.py is no list' in text['missing']
    assert 'no checkpoint that can be read' in text['images']
    assert 'resnet18' in text['facts']  # the config of the results
    assert not (copy / 'executed').exists()


@pytest.mark.parametrize('size', ['10**400', '1e308', '0', "'many'", 'True'])
def test_sizes_of_a_config_that_no_run_has_break_nothing(copy, size):
    text = (copy / 'config.py').read_text()
    text = re.sub(r'(?m)^(epochs|batch_size) = .*$', rf'\1 = {size}', text)
    (copy / 'config.py').write_text(text)
    records = RunRecords.read(copy)
    content = facts_html(records) + cost_html(records)
    assert '7 steps' in content and 'resnet18' in content


def test_measures_of_a_checkpoint_are_those_of_the_last_look_and_have_their_own_table(copy):
    look = [json.loads(line) for line in (copy / 'log.jsonl').read_text().splitlines()][-1]
    context = EvaluationContext(str(checkpoints_in(copy)[0]), workers=0)
    rows = evaluate_label_free(context, report=lambda text: None)
    found = {row['metric']: row['value'] for row in rows}
    assert list(found) == ['rankme', 'alpha_req', 'lidar', 'alignment', 'uniformity']
    for key, value in found.items():
        assert value == pytest.approx(look[f'val/{key}'], rel=1e-4)
    lidar = rows[2]
    assert lidar['protocol'] == dict(
        name='label_free',
        measure='LiDAR',
        good='high',
        images=40,
        views=10,
        delta=1e-4,
        epsilon=1e-8,
    )
    assert lidar['n'] == 40 and lidar['test'] == 'val' and lidar['weights'] == 'trained'
    text = results_html(RunRecords.read(copy))
    for row in rows:
        assert f'{row["value"]:.4g}' in text
    assert '10 training views of each of 40 images' in text
    # They are no accuracies, and the leaderboard ranks accuracies.
    metrics = {entry.metric for entry in build_leaderboard([str(copy)]).entries}
    assert metrics == {'knn_top1', 'probe_2_per_class_top1'}


def test_a_page_of_a_run_that_goes_on_is_read_again(copy):
    (copy / 'log.jsonl').write_text('{"step": 1, "epoch": 0.1, "train/loss": 1.0}\n')
    command = page_hook.page_command(str(copy), '--no-images', '--reload', '60')
    assert command[-7:] == ['-m', 'ssl_zoo', 'report', str(copy), '--no-images', '--reload', '60']
    assert report_command(command[-4:]) == 0
    page = (copy / 'report.html').read_text()
    assert '<meta http-equiv="refresh" content="60">' in page and 'again every 60 s' in page
    assert 'refresh' not in write_run_report(copy, images=False).read_text()
    with pytest.raises(ConfigError, match='reload is 0 seconds, but it must be at least 1'):
        write_run_report(copy, images=False, reload=0)


def test_the_hook_writes_pages_and_an_error_of_a_page_is_one_warning(tiny, tmp_path, monkeypatch):
    calls = []

    def page_command(*arguments):
        calls.append(arguments)
        return ['sh', '-c', 'echo "error: a <reason>" >&2; exit 2']

    monkeypatch.setattr(page_hook, 'page_command', page_command)
    runner = build_trainer(tiny(hooks=[dict(type='RunPageHook', every=0.2)]), tmp_path)
    runner.fit()
    *during, last = calls
    assert during and set(during) == {(str(tmp_path), '--no-images', '--reload', '60')}
    assert last == (str(tmp_path), '--no-images')
    [hook] = [hook for hook in runner.hooks if isinstance(hook, page_hook.RunPageHook)]
    assert hook.process is None
    log = (tmp_path / 'train.log').read_text()
    assert log.count('page of the run was not written: error: a <reason>') == 1
    with pytest.raises(ConfigError, match='every=0, but it must be above 0'):
        page_hook.RunPageHook(every=0)


def test_what_is_no_run_or_not_a_page_is_refused(copy, tmp_path):
    with pytest.raises(ConfigError, match='there is no run at'):
        write_run_report(tmp_path / 'missing')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(ConfigError, match='is no work directory of a run'):
        write_run_report(tmp_path / 'empty')
    own = tmp_path / 'notes.txt'
    own.write_text('mine')
    with pytest.raises(ConfigError, match='another file with --out'):
        write_run_report(copy, own, images=False)
    assert own.read_text() == 'mine'


def test_small_images_are_stored_pixel_by_pixel_and_large_ones_as_jpeg():
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    element = picture(pixels, 'a "quoted" <name>', 'same')
    content = base64.b64decode(re.search('image/png;base64,([^"]+)"', element)[1])
    with Image.open(io.BytesIO(content)) as image:
        assert (np.asarray(image) == pixels).all()
    assert 'alt="a &quot;quoted&quot; &lt;name&gt;"' in element
    large = picture(np.zeros((300, 200, 3), np.uint8), 'large')
    content = base64.b64decode(re.search('image/jpeg;base64,([^"]+)"', large)[1])
    with Image.open(io.BytesIO(content)) as image:
        assert image.size == (96, 144)
    halves = np.array([[[0.0] * 3, [1.0] * 3]] * 2)
    assert enlarged(halves, 8)[3, ::7].tolist() == [[0] * 3, [255] * 3]


def test_neighbours_are_those_of_a_search_in_float64():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(50, 16)).astype(np.float32)
    queries = rng.normal(size=(4, 16)).astype(np.float32)
    cosines, rows = nearest_in_bank(Features(values, None, np.arange(50)), queries)
    for query, found, similar in zip(queries.astype(np.float64), rows, cosines, strict=True):
        expected = [
            query @ value / np.sqrt((query @ query) * (value @ value))
            for value in values.astype(np.float64)
        ]
        order = sorted(range(50), key=lambda i: -expected[i])[:5]
        assert found.tolist() == order
        assert np.allclose(similar, [expected[i] for i in order], atol=1e-6)
    assert nearest_in_bank(Features(values[:3], None, np.arange(3)), queries)[1].shape == (4, 3)


def test_chosen_images_are_of_different_classes_and_the_same_for_all_runs():
    labels = np.arange(100) % 7
    chosen = choose_queries(np.arange(100), labels, 100)
    assert len(chosen) == 6 and len(set(labels[chosen])) == 6
    # Image 3 cannot be read, and the others stay.
    readable = np.delete(np.arange(100), 3)
    again = readable[choose_queries(readable, labels[readable], 100)]
    assert set(chosen.tolist()) - {3} <= set(again.tolist())
    assert choose_queries(np.arange(100), None, 100).tolist() == [
        int(i) for i in choose_queries(np.arange(100), np.zeros(100, np.int64), 100)
    ]
    assert sorted(choose_queries(np.arange(4), np.zeros(4, np.int64), 4)) == [0, 1, 2, 3]


def test_principal_components_are_those_of_the_covariance_up_to_sign():
    rng = np.random.default_rng(0)
    features = (rng.normal(size=(3, 4, 5, 8)) * np.arange(1, 9)).astype(np.float32)
    scores = principal_components(features).reshape(-1, 3)
    flat = features.reshape(-1, 8).astype(np.float64)
    flat -= flat.mean(0)
    values, vectors = np.linalg.eigh(flat.T @ flat)
    _, _, directions = np.linalg.svd(flat)
    for number in range(3):
        assert np.isclose((scores[:, number] ** 2).sum(), values[-1 - number])
        for direction in (vectors[:, -1 - number], directions[number]):
            expected = flat @ direction
            sign = np.sign(expected @ scores[:, number])
            assert np.allclose(scores[:, number], sign * expected, atol=1e-9)
    colours = as_colours(scores.reshape(3, 4, 5, 3))
    assert np.allclose(colours.min((0, 1, 2)), 0) and np.allclose(colours.max((0, 1, 2)), 1)
    # One position far from the others leaves their colours apart.
    values = np.linspace(0, 1, 300).reshape(3, 10, 10, 1).repeat(3, axis=3)
    far = values.copy()
    far[0, 0, 0] = 1000
    assert np.allclose(as_colours(far)[1:], as_colours(values)[1:], atol=0.02)
    constant = principal_components(np.ones((2, 4, 4, 8), np.float32))
    assert not constant.any() and np.isfinite(as_colours(constant)).all()


def test_synsets_are_shown_as_words():
    assert readable_names(['n01440764', 'n03888257']) == ['tench', 'parachute']
    cranes = ['n02012849', 'n03126707', 'n01440764']
    assert readable_names(cranes) == ['crane (n02012849)', 'crane (n03126707)', 'tench']
    for own in (['cat', 'n01440764'], [], ['n014', 'n015']):
        assert readable_names(own) == own


def test_confusions_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 6, 300)
    predicted = np.where(rng.random(300) < 0.5, labels, rng.integers(0, 6, 300))
    table = confusion_matrix(labels, predicted)
    pairs = [(-table[i, j], i, j) for i in range(6) for j in range(6) if i != j and table[i, j]]
    found = worst_confusions(labels, predicted, 8)
    assert [(-len(c.rows), c.label, c.predicted) for c in found] == sorted(pairs)[:8]
    for confusion in found:
        assert confusion.images == table[confusion.label].sum()
        assert (labels[confusion.rows] == confusion.label).all()
        assert (predicted[confusion.rows] == confusion.predicted).all()
    assert worst_confusions(labels, labels, 8) == []


@pytest.fixture(scope='module')
def vit():
    torch.manual_seed(0)
    arguments = dict(img_size=32, patch_size=8, depth=2, embed_dim=24, num_heads=3, num_classes=0)
    return timm.create_model('vit_tiny_patch16_224', **arguments)


def test_attention_is_the_softmax_of_the_last_block(vit):
    images = torch.randn(2, 3, 32, 32)
    vit.train()
    block = vit.blocks[-1]
    inputs = []
    hook = block.attn.register_forward_hook(lambda module, args, output: inputs.append(args[0]))
    found = class_token_attention(vit, images)
    hook.remove()
    assert vit.training and block.attn.fused_attn and not block.attn.attn_drop._forward_hooks
    query, key, _ = block.attn.qkv(inputs[0]).unflatten(2, (3, 3, 8)).unbind(2)
    for image in range(2):
        for head in range(3):
            logits = key[image, :, head] @ query[image, 0, head] / 8**0.5
            expected = logits.softmax(0)[1:].reshape(4, 4)
            assert np.allclose(found[image, head], expected.detach().numpy(), atol=1e-6)


def test_feature_maps_of_a_vit_and_of_a_resnet(vit):
    images = torch.randn(2, 3, 32, 32)
    tokens = vit.eval().forward_features(images).detach()
    found = feature_map(vit, images)
    assert found.values.shape == (2, 4, 4, 24)
    assert np.allclose(found.values[1, 2, 3], tokens[1, 1 + 2 * 4 + 3], atol=1e-6)
    resnet = timm.create_model('resnet18', num_classes=0, layers=[1, 1, 1, 1]).eval()
    large = torch.randn(1, 3, 128, 128)
    last = resnet.forward_features(large).detach()
    found = feature_map(resnet, large)
    assert found.layer == 'the last feature map'
    assert np.allclose(found.values, last.permute(0, 2, 3, 1), atol=1e-6)
    assert feature_map(resnet, images).layer == 'the feature map of layer2'  # 4 x 4
    with pytest.raises(ConfigError, match='this backbone is a Linear'):
        feature_map(torch.nn.Linear(1, 1), images)
    with pytest.raises(ConfigError, match='a ResNet has no attention'):
        class_token_attention(resnet, images)
