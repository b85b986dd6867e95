"""FileList: paths and classes of a text file."""

import pytest

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


def test_file_list_with_spaces_in_names_and_beside_its_images(image_folder):
    root = image_folder()
    (root / 'my cat 3.png').write_bytes((root / 'class_0' / '0.png').read_bytes())
    (root / 'list.txt').write_text('my cat 3.png\nclass_0/1.png\n')
    assert FileList(str(root / 'list.txt')).files == ['my cat 3.png', 'class_0/1.png']


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        (None, 'no such file'),
        ('\n\n', 'is empty'),
        ('caf\xe9.png\n', 'is not UTF-8 text'),
        ('class_0/0.png\nclass_0/none.png\n', "1 of 2 files .* first is 'class_0/none.png'"),
        ('class_0/0.png\tcat\nclass_0/1.png\n', "not for 'class_0/1.png'"),
        ('class_0/0.png\nclass_0/1.png\tcat\n', "not for 'class_0/0.png'"),
        ('class_0/0.png\tcat\nclass_0/1.png\t \n', "not for 'class_0/1.png'"),
    ],
)
def test_lists_that_cannot_be_used(tmp_path, image_folder, refusal, text, words):
    root = image_folder()
    listing = tmp_path / 'list.txt'
    if text is not None:
        listing.write_text(text, encoding='latin-1')
    refusal(dict(type='FileList', path=str(listing), root=str(root)), words)
