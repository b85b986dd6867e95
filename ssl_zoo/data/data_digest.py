"""Digests of the images of a data set, which results rows and the records of a study hold."""

from ssl_zoo.data.sources import Source


def data_digest(source: Source) -> str:
    """Return a digest of the images of a source: names, labels."""
    return source.manifest()


def trained_on(checkpoint: dict) -> str | None:
    """Return the digest of the training images; None if the checkpoint does not have it."""
    return checkpoint.get('manifest')
