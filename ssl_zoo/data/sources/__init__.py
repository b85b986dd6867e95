"""Sources of images: class folders, lists of files, arrays, tar shards, the data sets of transfer evaluations."""

from ssl_zoo.data.sources.base import Joined, Source, Subset, balanced_order, build_source

__all__ = ['Joined', 'Source', 'Subset', 'balanced_order', 'build_source']
