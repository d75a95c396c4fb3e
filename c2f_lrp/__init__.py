"""A companion to *Explainable Adversarial Attacks on Coarse-to-Fine Classifiers* (arXiv 2501.10906).

Importing this package loads nothing heavy: each name below loads its module, and torch with it, when it is first used
(PEP 562).
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # for readers and type checkers
    from c2f_lrp.classifier import Classifier, CoarseToFine
    from c2f_lrp.datasets import Images, LazyImages
    from c2f_lrp.hierarchy import Hierarchy
    from c2f_lrp.loading import load_classifier, load_flat, load_images, open_images
    from c2f_lrp.profiles import PROFILES, get_profile

_HOMES = {
    "CoarseToFine": "classifier",
    "Classifier": "classifier",
    "Hierarchy": "hierarchy",
    "Images": "datasets",
    "LazyImages": "datasets",
    "PROFILES": "profiles",
    "get_profile": "profiles",
    "load_classifier": "loading",
    "load_flat": "loading",
    "load_images": "loading",
    "open_images": "loading",
}
__all__ = [
    "PROFILES",
    "Classifier",
    "CoarseToFine",
    "Hierarchy",
    "Images",
    "LazyImages",
    "get_profile",
    "load_classifier",
    "load_flat",
    "load_images",
    "open_images",
]


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
