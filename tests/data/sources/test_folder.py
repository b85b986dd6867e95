"""ImageFolder and Images: which files of a folder are images, their labels, their manifest."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from ssl_zoo.data.identity import content_identity
from ssl_zoo.data.sources import Joined, Subset, build_source, folder, left_out
from ssl_zoo.data.sources.arrays import Digits
from ssl_zoo.data.sources.folder import ImageFolder, Images, check_work_dir
from ssl_zoo.data.view_dataset import ViewDataset
from ssl_zoo.data.views import View
from ssl_zoo.errors import ConfigError, UnreadableImage
from ssl_zoo.storage.lock import FileLock

pytestmark = pytest.mark.quick


def test_image_folder(image_folder):
    root = image_folder()
    (root / 'class_1' / 'deep' / 'er').mkdir(parents=True)
    shutil.copy(root / 'class_1' / '0.png', root / 'class_1' / 'deep' / 'er' / 'X.PNG')
    (root / 'class_0' / 'notes.txt').write_text('no image')
    (root / '.hidden').mkdir()
    shutil.copy(root / 'class_1' / '0.png', root / '.hidden' / 'a.png')
    source = ImageFolder(str(root))
    assert source.classes == ['class_0', 'class_1', 'class_2']
    assert np.bincount(source.labels).tolist() == [8, 9, 8]
    assert source.name(16) == 'class_1/deep/er/X.PNG' and source.labels[16] == 1
    assert np.array_equal(
        np.asarray(source.read(0)), np.asarray(Image.open(root / 'class_0' / '0.png'))
    )


def test_images_of_any_nested_folder(image_folder):
    root = image_folder()
    (root / 'loop').symlink_to(root, target_is_directory=True)  # must not be followed for ever
    source = Images(str(root))
    assert len(source) == 24 and source.labels is None and source.classes is None


def test_names_that_are_not_utf8_pipes_and_folders_named_like_images(image_folder):

    root = image_folder(classes=1, per_class=2)
    (root / 'class_0' / os.fsdecode(b'caf\xe9.png')).write_bytes(
        (root / 'class_0' / '0.png').read_bytes()
    )
    os.mkfifo(root / 'class_0' / 'pipe.png')
    (root / 'class_0' / 'folder.png').mkdir()
    source = ImageFolder(str(root))
    assert len(source) == 3 and len(source.manifest()) == 16
    assert all(source.read(i).size == (24, 24) for i in range(3))


def test_the_manifest_names_the_content_not_the_place(image_folder):
    one, two = image_folder(name='here'), image_folder(name='there')
    assert ImageFolder(str(one)).manifest() == ImageFolder(str(two)).manifest()
    (two / 'class_0' / '0.png').rename(two / 'class_0' / 'new.png')
    assert ImageFolder(str(one)).manifest() != ImageFolder(str(two)).manifest()


@pytest.mark.parametrize(
    ('source', 'root', 'words'),
    [
        (
            'ImageFolder',
            'none',
            'looked for class folders with images in .*/none, but that does not exist',
        ),
        ('ImageFolder', 'file', 'is a file'),
        ('ImageFolder', 'empty', 'found 0 folders'),
        ('ImageFolder', 'images/class_0', "without class folders use type='Images'"),
        ('Images', 'empty', 'looked for images .* in .*/empty and below, and found none'),
    ],
)
def test_folders_without_images(tmp_path, image_folder, refusal, source, root, words):
    image_folder()
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'file').write_text('class_0/0.png\n')
    refusal(dict(type=source, root=str(tmp_path / root)), words)
    assert not (tmp_path / 'none').exists()


def test_stats_of_files_follow_the_content_and_composed_sources(image_folder):
    root = image_folder(classes=2, per_class=3, name='one')
    source = ImageFolder(str(root))
    before = source.file_stats()
    assert before.shape == (6, 2)
    for i, (size, mtime) in enumerate(before):
        status = (root / source.files[i]).stat()
        assert (status.st_size, status.st_mtime_ns) == (size, mtime)
    chosen = Subset(source, np.array([5, 0, 3]))
    assert np.array_equal(chosen.file_stats(), before[[5, 0, 3]])
    assert np.array_equal(chosen.file_stats(np.array([1])), before[[0]])
    assert np.array_equal(Joined(chosen, source).file_stats(np.array([2, 3])), before[[3, 0]])
    assert Joined(source, Digits('val')).file_stats() is None
    (root / source.files[2]).unlink()
    assert source.file_stats()[2].tolist() == [-1, -1]


def test_pictures_exchanged_under_the_same_names_are_other_content(image_folder):
    root = image_folder(classes=2, per_class=6, name='one')
    source = ImageFolder(str(root))
    manifest, before = source.manifest(), content_identity(source)
    assert content_identity(source) == before and set(before) == {'sizes', 'times', 'pixels'}
    one, other = (root / source.files[i] for i in (1, 7))
    stats = one.stat()
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)
    after = content_identity(source)
    assert source.manifest() == manifest and after['times'] != before['times']
    one.write_bytes(content[:-1])
    os.utime(one, ns=(stats.st_atime_ns, stats.st_mtime_ns))
    assert content_identity(source)['sizes'] != before['sizes']


def test_another_size_of_images_that_are_no_files_is_other_content():
    of_32, of_24 = (content_identity(Digits('val', size=size)) for size in (32, 24))
    assert of_32['sizes'] is None and of_32['pixels'] != of_24['pixels']


def test_images_above_the_limit_are_replaced_as_damaged_ones_are(image_folder):
    root = image_folder(classes=2, per_class=10, size=24)
    Image.new('RGB', (30, 24)).save(root / 'class_0' / '3.png')
    with open(root / 'class_1' / '4.png', 'wb') as file:
        file.truncate(1 << 40)
    source = build_source(dict(type='ImageFolder', root=str(root), limit=20), max_pixels=24 * 24)
    batch = ViewDataset(source, [View(16)], 0).__getitems__([(0, i) for i in range(20)])
    reasons = dict(batch['unreadable'])
    assert {source.name(i) for i in reasons} == {'class_0/3.png', 'class_1/4.png'}
    assert all('raise data.max_pixels' in reason for reason in reasons.values())
    assert len(batch['views'][0]) == 20
    with pytest.raises(UnreadableImage, match='1,099,511,627,776 bytes'):
        source.encoded(list(reasons)[1])


def test_files_left_out_are_counted(tmp_path, image_folder, refusal):
    root = image_folder(classes=1, per_class=4)
    class_folder = root / 'class_0'
    for name in ('a.jfif', 'b.JPE'):
        Image.new('RGB', (9, 9), (200, 10, 10)).save(class_folder / name, 'JPEG')
    for name in ('1.mov', '2.mov', '3.txt', 'README'):
        (class_folder / name).write_text('no image')
    (class_folder / 'gone.png').symlink_to(tmp_path / 'nothing')
    source = Images(str(root))
    assert len(source) == 6 and source.read(4).size == (9, 9)
    assert source.notes == (
        f'{root}: 6 images; 5 other files left out: 2 .mov, 1 .txt, 1 dangling links, '
        f'1 without suffix',
    )
    shutil.copy(class_folder / '0.png', root / 'beside.png')
    labelled = ImageFolder(str(root))
    assert '6 images; 6 other files left out: 2 .mov, 1 .txt' in labelled.notes[0]
    assert '1 images beside the class folders' in labelled.notes[0]
    half = build_source(dict(type='Images', root=str(root), limit=3))
    assert half.notes[0].startswith(f'{root}: 7 images; 5 other files')
    assert Joined(half, labelled).notes == half.notes + labelled.notes
    (tmp_path / 'texts').mkdir()
    (tmp_path / 'texts' / 'a.txt').touch()
    refusal(dict(type='Images', root=str(tmp_path / 'texts')), 'found none .*1 other file left out')


def test_heic_files_are_read_where_a_plug_in_is_installed(image_folder, monkeypatch):
    root = image_folder(classes=1, per_class=2)
    shutil.copy(root / 'class_0' / '0.png', root / 'class_0' / 'a.heic')
    monkeypatch.setattr(folder, 'readable_suffixes', lambda: ('.png',))
    monkeypatch.setattr(left_out, 'readable_suffixes', lambda: ('.png',))
    source = Images(str(root))
    assert source.notes[0].endswith('1 .heic (.heic files are read once pillow-heif is installed)')
    monkeypatch.setattr(folder, 'readable_suffixes', lambda: ('.png', '.heic'))
    assert len(Images(str(root))) == 3


@pytest.mark.parametrize('made_by', ['lock', 'log'])
def test_folders_of_runs_are_left_out(image_folder, made_by):
    root = image_folder()
    names = Images(str(root)).files
    for run in (root / 'my_run', root / 'class_1' / 'run'):
        run.mkdir()
        lock = FileLock(run / '.lock')
        if made_by == 'lock':
            lock.acquire()
        else:  # a file system without locks
            (run / 'log.jsonl').touch()
        lock.release()
        shutil.copy(root / 'class_0' / '0.png', run / 'views.png')
    (root / 'work_dirs' / 'views').mkdir(parents=True)
    shutil.copy(root / 'class_0' / '0.png', root / 'work_dirs' / 'views' / 'a.png')
    for source in (Images(str(root)), ImageFolder(str(root))):
        assert source.files == names
        assert source.notes == (f'{root}: 3 folders of runs left out',)
    assert source.classes == ['class_0', 'class_1', 'class_2']


def test_a_lock_file_of_another_program_marks_no_run(image_folder):
    root = image_folder()
    (root / 'class_0' / '.lock').write_text('4711')
    assert len(Images(str(root))) == 24


def test_a_run_may_not_work_among_its_images(image_folder):
    root = image_folder()
    images = Images(str(root))
    for source in (images, Subset(images, np.arange(24)), ImageFolder(str(root))):
        for place in (root, root / 'class_1', root / '..' / root.name):
            with pytest.raises(ConfigError, match='holds images of data.train.* another --work-'):
                check_work_dir(source, place, 'train')
        check_work_dir(source, root / 'run', 'train')
        check_work_dir(source, root / 'class_1' / 'run', 'train')
        check_work_dir(source, root.parent, 'train')
    check_work_dir(None, root, 'val')
