"""Names of classes for people."""

import re
from collections import Counter
from functools import cache

SYNSET = re.compile(r'n\d{8}')  # a noun of WordNet, as ImageNet's folders are called


@cache
def _words() -> dict[str, str]:
    """Return the words of each of ImageNet's synsets: 'n01440764' -> 'tench, Tinca tinca'."""
    from timm.data import ImageNetInfo  # takes seconds, and few class names are synsets

    return ImageNetInfo('imagenet-22k').label_descriptions(as_dict=True)


def readable_names(names: list[str]) -> list[str]:
    """Return names of classes, with the first word of WordNet in place of a synset's number.

    Args:
        names: names of the classes. They stay as they are unless all look like 'n01440764'. Two
            classes with the same word, such as ImageNet's cranes, keep their numbers beside it.
    """
    if not names or not all(SYNSET.fullmatch(name) for name in names):
        return names
    words = [_words().get(name, name).split(',')[0] for name in names]
    count = Counter(words)
    return [
        word if count[word] == 1 else f'{word} ({name})'
        for word, name in zip(words, names, strict=True)
    ]
