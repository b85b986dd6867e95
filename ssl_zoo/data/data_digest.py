"""Digests of the images of a data set, which results rows and the records of a study hold."""

from ssl_zoo.data.identity import content_identity
from ssl_zoo.data.sources import Source
from ssl_zoo.storage.digest import sha256_of_json


def data_digest(source: Source) -> str:
    """Return a digest of the images of a source: names, labels, sizes of files, some pixels.

    Modification times are left out, because a copy of the files on another machine may have others.
    Costs what ``content_identity`` costs.
    """
    return _digest(source.manifest(), content_identity(source))


def trained_on(checkpoint: dict) -> str | None:
    """Return the digest of the training images; None if the checkpoint does not have it.

    Args:
        checkpoint: content of a checkpoint.
    """
    identity = checkpoint.get('data_identity')
    if not isinstance(identity, dict) or not isinstance(checkpoint.get('manifest'), str):
        return None
    return _digest(checkpoint['manifest'], identity)


def _digest(manifest: str, identity: dict) -> str:
    return sha256_of_json([manifest, identity.get('sizes'), identity.get('pixels')])[:16]
