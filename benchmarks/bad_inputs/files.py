"""Good and bad files of the campaign: images, configs, checkpoints, lists, shards and results."""

import gzip
import hashlib
import json
import os
import pickle
import re
import shlex
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from hostile_files import make_hostile_files
from inputs import CONFIG, WORKING
from PIL import Image

# Folder of images -> its classes, one letter each, and the number of images of a class.
IMAGE_FOLDERS = dict(
    train=('abc', 8), test=('abc', 4), one=('a', 24), strange=('axyz', 4), torn=('abc', 4)
)


class Hostile:
    """An object whose pickle makes a file when it is loaded without protection."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f'touch {self.marker}',)


@dataclass
class Workshop:
    """Everything that is needed to make the files.

    Attributes:
        home: the folder of the campaign.
        marker: the file that appears if the code in a hostile file runs.
        names: values for the names in braces of inputs.py; making the files adds 'ckpt' and
            'preds'.
        run_tool: runs a tool with arguments; it must succeed.
    """

    home: Path
    marker: Path
    names: dict[str, str]
    run_tool: Callable

    def hostile_array(self) -> np.ndarray:
        """Return an array of objects, which numpy stores as a pickle."""
        return np.array([Hostile(self.marker)], dtype=object)

    def hostile_pickle(self) -> bytes:
        """Return the bytes of a pickle that runs code."""
        return pickle.dumps(Hostile(self.marker))

    def working_command(self, tool: str, work_dir: str) -> list[str]:
        """Return the arguments of a tool's working command, with another work directory."""
        line = WORKING[tool].format(**self.names)
        return shlex.split(line.replace(' work ', f' {self.home}/{work_dir} '))


def make_files(home: Path, marker: Path, names: dict[str, str], run_tool: Callable) -> None:
    """Make all files of the campaign, see Workshop."""
    workshop = Workshop(home, marker, names, run_tool)
    make_images(home)
    make_configs(workshop)
    make_runs(workshop)
    make_damaged_checkpoints(workshop)
    make_edited_checkpoints(workshop)
    make_claiming_checkpoints(workshop)
    make_lists(home)
    make_shards(workshop)
    make_predictions(workshop)
    make_stored_features(workshop)
    make_stopped_evaluations(workshop)
    make_train_all_folders(home)
    run_tool('new_method', 'my_method', '--out', home / 'method_there')
    make_hostile_files(home, marker, names)


def flipped(data: bytes, position: int) -> bytes:
    """Return the bytes with one bit changed."""
    return data[:position] + bytes([data[position] ^ 16]) + data[position + 1 :]


def make_images(home: Path) -> None:
    rng = np.random.default_rng(0)
    for folder, (classes, n) in IMAGE_FOLDERS.items():
        for name in classes:
            class_folder = home / 'images' / folder / name
            class_folder.mkdir(parents=True)
            for i in range(n):
                path = class_folder / f'{folder}{i}.png'
                pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(path)
                if folder == 'torn':
                    path.write_bytes(path.read_bytes()[:60])
    (home / 'images' / 'empty' / 'a').mkdir(parents=True)


def make_configs(workshop: Workshop) -> None:
    home = workshop.home
    good = CONFIG.format(root=str(home))
    attack = f"dict(type='os.system', command='touch {workshop.marker}')"
    texts = dict(
        good=good,
        empty='',
        syntax='a = = 3',
        raises=good + "\nraise RuntimeError('on purpose')",
        raises_empty='raise ValueError',
        exits='import sys\nsys.exit(0)',
        interrupts='raise GeneratorExit',
        recursive='def f(): f()\nf()',
        base_of_itself="_base_ = 'base_of_itself.py'\n" + good,
        base_missing="_base_ = 'none.py'\n" + good,
        no_method=re.sub(r'method = .*\n.*\n', '', good),
        method_none=good + '\nmethod = None',
        method_dotted=good + f'\nmethod = {attack}',
        method_list_type=good + "\nmethod['type'] = ['BYOL']",
        function_value=good + '\nepochs = lambda: 3',
        object_value=good + '\nbase_lr = object()',
        set_value=good + '\nviews = {1, 2}',
        data_list=good + '\ndata = [data]',
        views_dict=good + '\nviews = dict(size=16)',
        imports_missing=good + "\nimports = ['none.py']",
        imports_string=good + "\nimports = 'good.py'",
        imports_raises=good + "\nimports = ['raises.py']",
        imports_exits=good + "\nimports = ['exits.py']",
        presets_bad=good + '\npresets = [3]',
    )
    for name, text in texts.items():
        (home / f'{name}.py').write_text(text)
    (home / 'config.txt').write_text(good)
    (home / 'words.json').write_text('["a"]')
    (home / 'binary.py').write_bytes(bytes(range(256)))
    (home / 'latin.py').write_bytes('name = "äöü"\n'.encode('latin-1') + good.encode())


def make_runs(workshop: Workshop) -> None:
    home = workshop.home
    good = workshop.names['good']
    workshop.run_tool('train', good, '--work-dir', home / 'run')
    workshop.run_tool('train', good, '--work-dir', home / 'other_run', '--seed', '5')
    [checkpoint] = (home / 'run/checkpoints').iterdir()
    workshop.names['ckpt'] = str(checkpoint)
    shutil.copytree(home / 'run', home / 'torn_run')
    torn = home / 'torn_run/checkpoints' / checkpoint.name
    torn.write_bytes(torn.read_bytes()[:1000])
    shutil.copy(home / 'other_run/checkpoints' / checkpoint.name, home / 'ckpt_other.pth')


def make_damaged_checkpoints(workshop: Workshop) -> None:
    """Make files that are not checkpoints, and checkpoints with changed bytes."""
    home = workshop.home
    data = Path(workshop.names['ckpt']).read_bytes()
    half = len(data) // 2
    (home / 'empty.pth').write_bytes(b'')
    (home / 'binary.pth').write_bytes(bytes(range(256)) * 40)
    (home / 'text.pth').write_text('these are words\n')
    (home / 'cut.pth').write_bytes(data[:half])
    (home / 'flipped.pth').write_bytes(flipped(data, half))
    (home / 'hostile.pth').write_bytes(workshop.hostile_pickle())
    torch.save(torch.nn.Linear(2, 2), home / 'foreign.pth')
    torch.save([1, 2], home / 'list.pth')


def make_edited_checkpoints(workshop: Workshop) -> None:
    """Make checkpoints with missing items or items of wrong types; most have the right digest."""
    from ssl_zoo.checkpoint import add_digest

    home = workshop.home
    content = torch.load(workshop.names['ckpt'], weights_only=True)
    torch.save(content['method'], home / 'plain.pth')
    torch.save(dict(content, format=torch.zeros(3)), home / 'format_tensor.pth')
    torch.save(add_digest(dict(format=content['format'])), home / 'format_only.pth')
    torch.save(dict(content, sha256=torch.zeros(3)), home / 'sha_tensor.pth')
    del content['sha256']
    torch.save(content, home / 'no_sha.pth')
    for key, name in (('config', 'no_config'), ('step', 'no_step'), ('method', 'no_weights')):
        rest = {other: value for other, value in content.items() if other != key}
        torch.save(add_digest(rest), home / f'{name}.pth')
    for name, items in edited_items(content, workshop.marker).items():
        torch.save(add_digest({**content, **items}), home / f'{name}.pth')


def edited_items(content: dict, marker: Path) -> dict[str, dict]:
    """Return for each edited checkpoint the items that differ from the good checkpoint."""
    config = content['config']
    weights = content['method']
    attack = dict(type='os.system', command=f'touch {marker}')
    not_a_number = {
        name: torch.full_like(value, float('nan')) if value.is_floating_point() else value
        for name, value in weights.items()
    }
    no_method = {key: value for key, value in config.items() if key != 'method'}
    return dict(
        config_int=dict(config=5),
        config_list=dict(config=[1, 2]),
        config_data_int=dict(config=dict(config, data=5)),
        config_unknown=dict(config=dict(config, nosuch=5)),
        config_types=dict(config=dict(config, epochs='ten', views=3, workers=[])),
        config_dotted=dict(config=dict(config, method=attack)),
        config_no_method=dict(config=no_method),
        config_keys_int=dict(config={**config, 5: 3}),
        config_infinite=dict(config=dict(config, base_lr=float('inf'))),
        step_text=dict(step='ten'),
        step_late=dict(step=10**6),
        weights_int=dict(method=5),
        weights_list=dict(method=[1]),
        weights_few=dict(method=dict(list(weights.items())[:3])),
        weights_shapes=dict(method={name: torch.zeros(1, 2, 3) for name in weights}),
        weights_nan=dict(method=not_a_number),
        optimizer_int=dict(optimizer=5),
        optimizer_few=dict(optimizer=dict(state={}, param_groups=[])),
        optimizer_text=dict(optimizer=with_text(content['optimizer'])),
        manifest_tensor=dict(manifest=torch.zeros(3)),
        accumulate_zero=dict(accumulate=0),
        images_text=dict(images='many'),
        progress_text=dict(hooks={'ssl_zoo.progress': 'text'}),
        backbone_fetches=dict(
            config=with_backbone(config, pretrained=True, pretrained_cfg=dict(url='data:,x'))
        ),
        backbone_opens=dict(config=with_backbone(config, checkpoint_path=str(marker))),
        backbone_writes=dict(config=with_backbone(config, cache_dir=str(marker))),
        layers_many=dict(config=with_backbone(config, layers=[10**9, 1, 1, 1])),
        width_large=dict(config=with_backbone(config, width=10**6)),
        views_many=dict(config=dict(config, views=config['views'] * 50_000)),
    )


def with_backbone(config: dict, **keys: object) -> dict:
    """Return a config with other keys of its backbone."""
    method = config['method']
    return {**config, 'method': {**method, 'backbone': {**method['backbone'], **keys}}}


def with_text(optimizer: dict) -> dict:
    """Return the state of an optimizer with a text in place of a tensor."""
    first = min(optimizer['state'])
    names = dict.fromkeys(optimizer['state'][first], 'text')
    return {**optimizer, 'state': {**optimizer['state'], first: names}}


def make_claiming_checkpoints(workshop: Workshop) -> None:
    """Make checkpoints that claim more than they hold, and incomplete replay files."""
    home = workshop.home
    content = torch.load(workshop.names['ckpt'], weights_only=True)
    cycle: list = []
    cycle.append(cycle)
    shared: list = [0]
    for _ in range(60):
        shared = [shared, shared]
    claims = dict(
        claims_stride=torch.zeros(1).expand(10**12),
        claims_meta=torch.zeros(10**12, device='meta'),
        claims_cycle=cycle,
        claims_shared=shared,
        claims_texts=['x' * 1000] * 10**5,
    )
    for name, value in claims.items():
        torch.save({**content, 'versions': value}, home / f'{name}.pth')
    with (
        zipfile.ZipFile(workshop.names['ckpt']) as plain,
        zipfile.ZipFile(home / 'claims_zip.pth', 'w', zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    items = dict(format='ssl_zoo step 1', config=content['config'], method=content['method'])
    torch.save(items, home / 'replay_few.pth')
    torch.save({**items, 'batch': 5, 'iter': 'x', 'found': 3}, home / 'replay_types.pth')


def make_lists(home: Path) -> None:
    names = [f'{label}/train{i}.png' for label in 'abc' for i in range(8)]
    texts = dict(
        list_missing='no/1.png\nno/2.png\n',
        list_empty='\n\n',
        list_half='a.png\t1\nb.png\n',
        list_nul='a\0b.png\n',
        list_long='n' * 5000 + '\n',
        list_gone='images/train/a/train0.png\t0\nno.png\t1\n',
        labels='\n'.join(names[::3]) + '\n',
        labels_unknown='a/none.png\n',
        labels_twice=f'{names[0]}\n{names[0]}\n',
        labels_one='\n'.join(names[:3]),
        labels_all='\n'.join(names),
    )
    for name, text in texts.items():
        (home / f'{name}.txt').write_text(text)
    (home / 'list_latin.txt').write_bytes(b'\xe4\xf6\xfc.png\n')
    flowers = home / 'flowers_rubbish/flowers-102'
    (flowers / 'jpg').mkdir(parents=True)
    for file in ('imagelabels.mat', 'setid.mat'):
        (flowers / file).write_text('words')


def make_shards(workshop: Workshop) -> None:
    home = workshop.home
    workshop.run_tool('make_shards', workshop.names['source'], home / 'shards', '--per-shard', '10')
    shard = (home / 'shards/shard-000000.tar').read_bytes()
    contents = dict(
        shards_cut=shard[: len(shard) // 2],
        shards_text=b'words',
        shards_gzip=gzip.compress(shard),
        shards_json_text=shard,
    )
    for folder, content in contents.items():
        (home / folder).mkdir()
        (home / folder / 'a.tar').write_bytes(content)
    (home / 'shards_json_text/shards.json').write_text('words')
    (home / 'shards_json_folder/shards.json').mkdir(parents=True)
    (home / 'shards_json_folder/shards.json/x').write_text('')
    make_hostile_index(workshop)


def make_hostile_index(workshop: Workshop) -> None:
    """Make shards with an index under its usual name; loading the arrays in the index runs code."""
    folder = workshop.home / 'shards_hostile_index'
    shutil.copytree(workshop.home / 'shards', folder)
    shards = [f'shard-{i:06d}.tar' for i in range(3)]
    digest = hashlib.sha256(json.dumps(shards).encode()).hexdigest()
    fields = ('counts', 'offsets', 'sizes', 'suffixes', 'labels', 'ends', 'keys', 'state')
    arrays = dict.fromkeys(fields, workshop.hostile_array())
    np.savez(folder / f'index-{digest[:8]}.npz', allow_pickle=True, **arrays)


def make_predictions(workshop: Workshop) -> None:
    home = workshop.home
    checkpoint = workshop.names['ckpt']
    workshop.run_tool('knn', checkpoint, '--work-dir', home / 'figures', '--k', '1')
    path = next((home / 'figures/predictions').iterdir())
    workshop.names['preds'] = str(path)
    data = path.read_bytes()
    (home / 'cut.npz').write_bytes(data[: len(data) // 2])
    (home / 'flipped.npz').write_bytes(flipped(data, data.index(b'predicted.npy') + 60))
    arrays = dict(np.load(path))
    np.savez(home / 'hostile.npz', **dict(arrays, predicted=workshop.hostile_array()))
    np.savez(home / 'p_missing.npz', labels=arrays['labels'])
    for name, changes in changed_predictions(arrays).items():
        np.savez(home / f'p_{name}.npz', **dict(arrays, **changes))


def changed_predictions(arrays: dict[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """Return for each bad file of predictions the arrays that differ from the good file."""
    predicted = arrays['predicted']
    labels = arrays['labels']
    no_predictions = dict(
        predicted=np.zeros((0, 1), int), labels=np.zeros(0, int), names=np.array([], 'U')
    )
    strange_row = '{"config": [1], "weights": {"a": []}, "layer": 5}'
    return dict(
        shapes=dict(predicted=predicted[:3]),
        floats=dict(predicted=predicted * 1.5),
        negative=dict(labels=labels - 5),
        huge=dict(labels=labels + 2**60),
        empty=no_predictions,
        other_names=dict(names=np.array([f'x{i}' for i in range(len(labels))])),
        other_labels=dict(labels=labels[::-1].copy()),
        row_list=dict(row=np.array('[1]')),
        row_text=dict(row=np.array('{')),
        row_strange=dict(row=np.array(strange_row)),
    )


def make_stored_features(workshop: Workshop) -> None:
    """Make folders of finished evaluations with rubbish in the features or in the results."""
    home = workshop.home
    for name in ('features_rubbish', 'features_pickled', 'results_rubbish'):
        shutil.copytree(home / 'figures', home / name)
    for path in (home / 'features_rubbish').rglob('*'):
        if path.is_file() and path.suffix in ('.json', '.npy'):
            path.write_bytes(b'words')
    for path in (home / 'features_pickled').rglob('*.npy'):
        np.save(path, workshop.hostile_array(), allow_pickle=True)
    (home / 'results_rubbish/results.jsonl').write_bytes(b'\xff\xfe words without end')


def make_stopped_evaluations(workshop: Workshop) -> None:
    """Make folders of stopped evaluations with rubbish in the saved state."""
    home = workshop.home
    # A finished evaluation would remove the state that a stopped evaluation keeps.
    with mock.patch('shutil.rmtree'):
        workshop.run_tool('linear', *workshop.working_command('linear', 'linear'))
    workshop.run_tool('semi_supervised', *workshop.working_command('semi_supervised', 'semi'))
    hostile = workshop.hostile_pickle()
    copy_with(home, 'linear', 'linear_rubbish', 'trained.pth', b'words')
    copy_with(home, 'linear', 'linear_hostile', 'trained.pth', hostile)
    torch.save(dict(heads={}), copy_with(home, 'linear', 'linear_foreign', 'trained.pth'))
    path = copy_with(home, 'linear', 'linear_state', 'trained.pth')
    path.rename(path.with_name('state.pth')).write_bytes(b'words')
    copy_with(home, 'semi', 'semi_scores_text', 'scores.json', b'words')
    copy_with(home, 'semi', 'semi_scores_types', 'scores.json', b'{"a": 3}')
    copy_with(home, 'semi', 'semi_scores_many', 'scores.json', b'[[1, 2], [3, 4], [5, 6]]')
    copy_with(home, 'semi', 'semi_best_text', 'best.pth', b'words')
    copy_with(home, 'semi', 'semi_hostile', 'best.pth', hostile)
    torch.save(dict(a=3), copy_with(home, 'semi', 'semi_best_foreign', 'best.pth'))
    copy_with(home, 'semi', 'semi_best_gone', 'best.pth').unlink()


def copy_with(
    home: Path, folder: str, name: str, pattern: str, content: bytes | None = None
) -> Path:
    """Copy a folder, and write ``content`` into its only file that matches the pattern.

    Return the path of this file.
    """
    shutil.copytree(home / folder, home / name)
    [path] = (home / name).rglob(pattern)
    if content is not None:
        path.write_bytes(content)
    return path


def make_train_all_folders(home: Path) -> None:
    """Make output folders of train_all.

    They hold a finished run, other settings, rubbish, or folders in the place of files.
    """
    shutil.copytree(home / 'run', home / 'all_done' / f'{home.name}_good' / 'seed_0')
    path = copy_with(home, 'all_done', 'all_other_settings', 'results.jsonl')
    path.write_text(path.read_text().replace('"batch_size": 6', '"batch_size": 7'))
    copy_with(home, 'all_done', 'all_rubbish', 'results.jsonl', b'\xff\xfe\n')
    copy_with(home, 'all_done', 'all_words', 'results.jsonl', b'3\n["a"]\n')
    table = home / 'all_table_folder/table.md'
    table.mkdir(parents=True)
    (table / 'x').write_text('')
    console = home / 'all_console_folder' / f'{home.name}_good' / 'seed_0' / 'console.log'
    console.mkdir(parents=True)
    (console / 'x').write_text('')
