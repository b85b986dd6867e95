"""The sentence that counts the files which a source leaves out."""

from collections.abc import Mapping
from pathlib import PurePath

from ssl_zoo.data.decode import OPTIONAL_FORMATS, SUFFIXES, readable_suffixes

SHOWN_KINDS = 6
MAX_SUFFIX = 12  # characters; the rest of a longer name is no suffix


def kind_of(name: str, end: str = '') -> str:
    """Return the suffix of a file that is left out, in lower case, or 'without suffix'.

    Args:
        name: name of the file.
        end: the end of the name with two suffixes or more, which is the kind if it is short.
    """
    suffix = end if 0 < len(end) <= MAX_SUFFIX else PurePath(name).suffix
    suffix = suffix.lower()
    is_plain = suffix.isprintable() and 1 < len(suffix) <= MAX_SUFFIX
    return suffix if is_plain else 'without suffix'


def left_out_note(place: object, images: int, left_out: Mapping[str, int]) -> tuple[str, ...]:
    """Return a note on the files of a place that are left out; none if no file is.

    Args:
        place: what was searched, such as a folder.
        images: number of images found.
        left_out: number of files by their kind, such as '.txt'.
    """
    if not left_out:
        return ()
    ordered = sorted(left_out.items(), key=lambda item: (-item[1], item[0]))
    kinds = [f'{number:,} {kind}' for kind, number in ordered[:SHOWN_KINDS]]
    kinds += ['...'] if len(ordered) > SHOWN_KINDS else []
    total = sum(left_out.values())
    note = (
        f'{place}: {images:,} images; {total:,} other {"files" if total > 1 else "file"} left out: '
        f'{", ".join(kinds)}'
    )
    unread = sorted(left_out.keys() & set(SUFFIXES) - set(readable_suffixes()))
    if unread:
        package = 'pillow-heif' if OPTIONAL_FORMATS[unread[0]] == 'HEIF' else 'pillow 11.3 or later'
        note += f' ({" ".join(unread)} files are read once {package} is installed)'
    return (note,)
