"""Data sources: class folders, file lists, arrays, tar shards, the sets of transfer evaluations."""

from ssl_zoo.data.sources.base import Source
from ssl_zoo.data.sources.build import (
    balanced_order,
    build_source,
    stratified_hold_out,
    stratified_order,
    stratified_subset,
)
from ssl_zoo.data.sources.composed import Joined, Subset

__all__ = [
    'Joined',
    'Source',
    'Subset',
    'balanced_order',
    'build_source',
    'stratified_hold_out',
    'stratified_order',
    'stratified_subset',
]
