"""Pages that repeat what the code says are in step with it."""

import re

from ssl_zoo.evaluation.recipes import LINEAR
from ssl_zoo.registry import METHODS


def preset_line(name, r):
    scale = ' x b/256' if r.per_256 else ''
    optimizer = f'{r.optimizer}, Nesterov' if r.nesterov else r.optimizer
    shape = (
        'x 0.1 at ' + ', '.join(f'{share:.0%}' for share in r.milestones)
        if r.shape == 'steps'
        else 'cosine'
    )
    schedule = f'{shape}, by {"epochs" if r.per_epoch else "steps"}' + (
        f', to {r.end:g}' if r.end else ''
    )
    resized = (
        ''
        if r.interpolation == 'bicubic'
        else ', bilinear'
        if r.test_interpolation == 'bilinear'
        else ', bilinear in training'
    )
    lrs = (
        ', '.join(f'{lr:g}' for lr in r.lrs)
        if len(r.lrs) < 6
        else f'{len(r.lrs)} from {min(r.lrs):g} to {max(r.lrs):g}'
    )
    decays = ', '.join(f'{d:g}' for d in r.weight_decays)
    return (
        f'| `{name}` | {optimizer} | {r.epochs[0]:g} | {r.batch_size} | {lrs}{scale} | {decays} | {schedule}{resized} | {r.init} | '
        f'{r.source} |'
    )


def test_the_table_of_presets(root):
    page = (root / 'docs/evaluation.md').read_text()
    for name, recipe in LINEAR.items():
        assert preset_line(name, recipe) in page, preset_line(name, recipe)


def test_the_page_on_reliability_has_every_method_and_names_tests_that_exist(root):
    text = (root / 'docs' / 'reliability.md').read_text()
    for name in METHODS.names():
        if METHODS.find(name).__module__.startswith('ssl_zoo.methods'):
            assert f'\n| {name} |' in text, name
    named = set(re.findall(r'(?:tests|benchmarks)/[\w/]+\.py', text))
    assert len(named) > 8 and not [path for path in named if not (root / path).exists()]


def test_the_example_of_a_study_loads(root, tmp_path):
    from ssl_zoo.studies.load import load_study

    [text] = re.findall(
        r'```python\n# configs/studies/photographs.py\n(.*?)```',
        (root / 'docs' / 'studies.md').read_text(),
        re.S,
    )
    path = tmp_path / 'photographs.py'
    path.write_text(text.replace("'../", f"'{root}/configs/"))
    study = load_study(path)
    assert [arm.id for arm in study.arms()] == ['byol-100', 'byol-300', 'simclr-100', 'simclr-300']
    assert study.arms()[1].settings().epochs == 300 and len(study.evaluate.metrics()) == 4
