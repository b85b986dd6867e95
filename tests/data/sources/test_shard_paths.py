"""find_shards: folders, files, patterns with braces and wildcards."""

from pathlib import Path

import pytest

from ssl_zoo.data.sources.shard_paths import _expand_braces, find_shards
from ssl_zoo.data.sources.shards import TarShards

pytestmark = pytest.mark.quick


def test_patterns(shard_folder):
    def names(pattern):
        return [Path(p).name for p in find_shards(f'{shard_folder}/{pattern}')]

    assert names('') == names('*.tar') == names('a-{0..6}.tar') == [f'a-{i}.tar' for i in range(7)]
    assert names('a-{2..0}.tar') == ['a-2.tar', 'a-1.tar', 'a-0.tar'] and names('a-3.tar') == [
        'a-3.tar'
    ]
    assert names('a-{0,{4..5}}.tar') == ['a-0.tar', 'a-4.tar', 'a-5.tar'] and names(
        '{a,a}-[12].tar'
    ) == ['a-1.tar', 'a-2.tar']
    (shard_folder / 'b-0009.tar').write_bytes(b'')
    (shard_folder / 'b-0010.tar').write_bytes(b'')
    (shard_folder / '.c.tar').write_bytes(b'')
    assert names('b-{0009..0010}.tar') == ['b-0009.tar', 'b-0010.tar'] and len(names('')) == 9
    (shard_folder / 'odd{0..1}[x].tar').write_bytes(b'')
    assert names('odd{0..1}[x].tar') == ['odd{0..1}[x].tar']


@pytest.mark.parametrize(
    ('pattern', 'names'),
    [
        ('{a,b{1..3},{c,d}e}f', 'af b1f b2f b3f cef def'),
        ('{{a,b},{a,b}}', 'a b'),
        ('{' * 10 + 'a,b' + '}' * 10, '{{{{{{{{{a}}}}}}}}} {{{{{{{{{b}}}}}}}}}'),
        ('{a,{b,c}', '{a,b {a,c'),
        ('a,b}{c}{}{1..x}{,d}', 'a,b}{c}{}{1..x} a,b}{c}{}{1..x}d'),
        ('{08..11}-{2..1}', '08-2 08-1 09-2 09-1 10-2 10-1 11-2 11-1'),
    ],
)
def test_braces_expand_as_in_a_shell(pattern, names):
    assert _expand_braces(pattern) == names.split()


def test_shards_of_one_name_in_two_folders_are_told_apart(tmp_path, samples, write_tar):
    for part in 'ab':
        write_tar(tmp_path / part / '0.tar', samples([1]))
    source = TarShards(f'{tmp_path}/{{a,b}}/0.tar')
    assert [source.name(i) for i in range(2)] == ['a/0.tar/00001', 'b/0.tar/00001']


@pytest.mark.parametrize(
    ('shards', 'words'),
    [
        ('{tmp}/none', 'looked for the shards .*/none, but there is no .*/none;'),
        ('{tmp}/none-{{00..11}}.tar', 'no .*/none-00.tar, and 11 others are missing'),
        ('{tmp}/shards/a-{{6..7}}.tar', r'there is no .*/a-7.tar; correct shards'),
        ('{tmp}/shards/b*.tar', r'there is no .*/b\*.tar'),
        ('{tmp}/shards/{{0..99999999}}.tar', 'more than 1,000,000 shards'),
        ('{tmp}/shards/{{0..9999}}{{0..9999}}.tar', 'more than 1,000,000 shards'),
        ('{tmp}/shards/{{000..146}}{{000..146}}*.tar', 'stands for 21,609 patterns with'),
        ('{tmp}/' + '{{0..9999}}' * 300, 'more than 1,000,000 shards'),
        ('{tmp}/' + '{{a,b}}' * 500, 'more than 1,000,000 shards'),
        ('{tmp}/' + '{{a,b,{{c,d}}}}' * 200, 'more than 1,000,000 shards'),
        ('{tmp}/' + '{{a,' * 300 + 'b' + '}}' * 300, 'more than 20 deep'),
        ('{tmp}/' + '{{' * 5000, 'more than 20 deep'),
        ('{tmp}/{{0..' + '9' * 5000 + '}}', 'there is no'),
        ('{tmp}/empty', r'looked for shards \(\*.tar\) in .*/empty, and found none; give'),
        ('{tmp}/packed', 'found only compressed ones, such as a.tar.gz; unpack'),
        ('s3://bucket/a.tar', 'on this machine'),
        ('pipe:cat a.tar', 'on this machine'),
        (7, 'must be a text'),
    ],
)
def test_paths_without_shards(tmp_path, shard_folder, write_tar, samples, refusal, shards, words):
    (tmp_path / 'empty').mkdir()
    write_tar(tmp_path / 'packed' / 'a.tar.gz', samples([1]), mode='w:gz')
    if isinstance(shards, str):
        shards = shards.format(tmp=tmp_path)
    refusal(dict(type='TarShards', shards=shards), words)
