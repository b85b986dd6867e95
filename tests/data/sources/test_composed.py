"""Joined and Subset: names, labels, images and manifests of sources made from others."""

import hashlib

import numpy as np
import pytest

from ssl_zoo.data.sources import Joined, Subset

pytestmark = pytest.mark.quick


def test_joined_sources_follow_each_other(named_source):
    first, second = (
        named_source('abc', [0, 1, 0], ['x', 'y']),
        named_source('de', [1, 1], ['x', 'y']),
    )
    joined = Joined(first, second)
    assert (
        len(joined) == 5
        and joined.labels.tolist() == [0, 1, 0, 1, 1]
        and joined.labels.dtype == np.int64
    )
    assert (
        ''.join(joined.name(i) for i in range(5))
        == 'abcde'
        == ''.join(joined.read(np.int64(i)) for i in range(5))
    )
    assert joined.classes == ['x', 'y'] and Joined(first, named_source('d', [0])).classes == [
        'x',
        'y',
    ]
    assert joined.manifest() == hashlib.sha256(b'a\t0\nb\t1\nc\t0\nd\t1\ne\t1\n').hexdigest()[:16]
    with pytest.raises(IndexError):
        joined.read(5)


def test_joined_sources_have_labels_only_if_both_have(named_source):
    labelled, bare = named_source('ab', [0, 1]), named_source('c')
    assert (
        Joined(labelled, bare).labels is None
        and Joined(bare, labelled).labels is None
        and Joined(bare, bare).labels is None
    )
    assert Joined(bare, labelled).manifest() == hashlib.sha256(b'c\t\na\t\nb\t\n').hexdigest()[:16]


def test_parts_of_joined_sources_and_joined_parts_are_sources_too(named_source):
    source = named_source('abcdef', range(6))
    parts = Joined(
        Subset(source, np.array([5, 0])),
        Joined(Subset(source, np.array([], dtype=np.int64)), Subset(source, np.array([3]))),
    )
    assert [parts.name(i) for i in range(3)] == ['f', 'a', 'd'] and parts.labels.tolist() == [
        5,
        0,
        3,
    ]
    assert [Subset(parts, np.array([2, 0])).read(i) for i in range(2)] == ['d', 'f']
