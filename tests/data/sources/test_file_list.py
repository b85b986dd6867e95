"""FileList: paths and classes of a text file."""

import os
import shutil

import pytest

from ssl_zoo.data.sources import build_source
from ssl_zoo.data.sources.file_list import FileList

pytestmark = pytest.mark.quick


@pytest.mark.parametrize(
    ('text', 'labels', 'classes'),
    [
        ('class_0/0.png\nclass_2/1.png\n', None, None),
        ('class_0/0.png\tcat\n\nclass_2/1.png\tant\n', [1, 0], ['ant', 'cat']),
        ('class_0/0.png\t7\nclass_2/1.png\t0\n', [7, 0], [str(i) for i in range(8)]),
        ('class_0/0.png\t01440764\nclass_2/1.png\t15075141\n', [0, 1], ['01440764', '15075141']),
        ('class_0/0.png 7\r\nclass_2/1.png 0\r\n', [7, 0], [str(i) for i in range(8)]),
        ('\ufeffclass_0/0.png\nclass_2/1.png', None, None),
        ('class_0/0.png\tcat\nclass_2/1.png\n', [0, -1], ['cat']),
        ('class_0/0.png\nclass_2/1.png\tcat\n', [-1, 0], ['cat']),
        ('class_0/0.png\tcat\nclass_2/1.png\t \n', [0, -1], ['cat']),
        ('class_0/0.png\tcat\nclass_2/1.png\t-1\n', [0, -1], ['cat']),
        ('class_0/0.png -1\nclass_2/1.png 1\n', [-1, 1], ['0', '1']),
        ('class_0/0.png\t-1\nclass_2/1.png\t-1\n', None, None),
    ],
)
def test_file_list(image_folder, tmp_path, text, labels, classes):
    root = image_folder()
    (tmp_path / 'list.txt').write_text(text, encoding='utf-8', newline='')
    source = FileList(str(tmp_path / 'list.txt'), root=str(root))
    assert source.files == ['class_0/0.png', 'class_2/1.png']
    assert (source.labels is None and labels is None) or source.labels.tolist() == labels
    assert source.classes == classes
    assert source.read(1).size == (24, 24)


@pytest.mark.parametrize(
    ('text', 'labels', 'classes', 'note'),
    [
        ('path,label\n{0},cat\n{1},ant\n', [1, 0], ['ant', 'cat'], "line 'path,label' is read"),
        (',split,Filename,Class\n0,a,{0},3\n1,b,{1},\n', [3, -1], list('0123'), 'header'),
        ('image;target\n{0};1\n{1};0\n', [1, 0], ['0', '1'], 'header'),
        ('file\tclass\n{0}\tcat\n{1}\t-1\n', [0, -1], ['cat'], 'header'),
        ('filename\n{0}\n{1}\n', None, None, "line 'filename' is read as the header"),
        ('{0},cat\n{1},-1\n', [0, -1], ['cat'], "columns separated by ','"),
        ('"{0}","a, b"\n"{1}","c"\n', [0, 1], ['a, b', 'c'], "columns separated by ','"),
        ('{0} cat\n{1} ant\n', [1, 0], ['ant', 'cat'], 'word after the last space'),
    ],
)
def test_columns_and_headers_are_read_where_the_files_exist(
    image_folder, text, labels, classes, note
):
    root = image_folder()
    listing = root / 'list.csv'
    listing.write_text(text.format('class_0/0.png', 'class_2/1.png'))
    source = FileList(str(listing))
    assert source.files == ['class_0/0.png', 'class_2/1.png']
    assert (source.labels is None and labels is None) or source.labels.tolist() == labels
    assert source.classes == classes
    assert source.notes[0].startswith(f'{listing}: ') and note in source.notes[0]


def test_names_with_commas_are_paths_where_such_files_exist(image_folder):
    root = image_folder()
    for name in ('a,b.png', 'path'):
        shutil.copy(root / 'class_0' / '0.png', root / name)
    (root / 'list.txt').write_text('path\na,b.png\n')
    source = FileList(str(root / 'list.txt'))
    assert source.files == ['path', 'a,b.png'] and source.labels is None and not source.notes


def test_file_list_with_spaces_in_names_and_beside_its_images(image_folder):
    root = image_folder()
    (root / 'my cat 3.png').write_bytes((root / 'class_0' / '0.png').read_bytes())
    (root / 'list.txt').write_text('my cat 3.png\nclass_0/1.png\n')
    assert FileList(str(root / 'list.txt')).files == ['my cat 3.png', 'class_0/1.png']


def test_file_names_of_a_list_may_hold_any_bytes(image_folder):
    root = image_folder()
    names = [b'caf\xe9.png', b'a\xc2\x85b.png']  # Latin-1, and a line break of Unicode
    for name in names:
        (root / os.fsdecode(name)).write_bytes((root / 'class_0' / '0.png').read_bytes())
    (root / 'list.txt').write_bytes(b'\tx\n'.join(names) + b'\t\xff\r\n')
    source = FileList(str(root / 'list.txt'))
    assert [os.fsencode(source.name(i)) for i in range(2)] == names
    assert source.classes == ['x', '\udcff'] and source.read(1).size == (24, 24)
    assert len(source.manifest()) == 16


def test_class_names_are_read_from_a_regular_file_alone(image_folder, tmp_path, refusal):
    root = image_folder()
    (root / 'list.txt').write_text('class_0/0.png 1\nclass_2/1.png 0\n')
    os.mkfifo(tmp_path / 'pipe')
    for path in ('/dev/zero', str(tmp_path / 'pipe')):
        cfg = dict(type='FileList', path=str(root / 'list.txt'), classes=path)
        refusal(cfg, 'it is not a regular file')


def test_a_file_beside_the_list_names_its_numbers(image_folder, tmp_path, refusal):
    root = image_folder()
    listing = root / 'list.txt'
    listing.write_text('class_0/0.png 1\nclass_2/1.png 0\n')
    source = FileList(str(listing))
    assert source.classes == ['0', '1'] and source.classes_are_numbers
    (root / 'classes.txt').write_text('cat\nant\n')
    source = FileList(str(listing))
    assert source.classes == ['cat', 'ant'] and source.labels.tolist() == [1, 0]
    assert not source.classes_are_numbers
    (tmp_path / 'names.txt').write_text('x\ny\nz\n')
    cfg = dict(type='FileList', path=str(listing))
    assert build_source(dict(cfg, classes=str(tmp_path / 'names.txt'))).classes == list('xyz')
    refusal(dict(cfg, classes='none.txt'), 'no such file')
    (root / 'classes.txt').write_text('cat\n')
    refusal(cfg, 'names 1 classes in 1 lines, and the labels go from 0 to 1')
    listing.write_text('class_0/0.png\tant\nclass_2/1.png\tbee\n')
    assert FileList(str(listing)).classes == ['ant', 'bee']
    refusal(dict(cfg, classes='none.txt'), 'leave classes out')


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        (None, 'no such file'),
        ('\n\n', 'is empty'),
        ('caf\xe9.png\n', r"1 of 1 files .* first is 'caf.udce9.png'"),
        ('class_0/0.png\nclass_0/none.png\n', "1 of 2 files .* first is 'class_0/none.png'; set"),
        ('class_0/0.png|cat\n', r"first is 'class_0/0.png\|cat', a whole line; if it is more than"),
        ('path,label\n0.png,cat\n', "1 of 1 files .* first is '0.png'; set root"),
        ('class_0/0.png,a,b\nclass_0/1.png,a,b\n', "2 of 2 files .*,a,b', a whole line; if"),
        ('path,label,class\nclass_0/0.png,1,a\n', 'a whole line; if'),
    ],
)
def test_lists_that_cannot_be_used(tmp_path, image_folder, refusal, text, words):
    root = image_folder()
    listing = tmp_path / 'list.txt'
    if text is not None:
        listing.write_text(text, encoding='latin-1')
    refusal(dict(type='FileList', path=str(listing), root=str(root)), words)
