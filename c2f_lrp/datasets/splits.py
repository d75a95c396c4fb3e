"""The 80/20 split of photographs, from a hash of the file name: the same on every machine and in any order."""

import hashlib

SPLITS = ("train", "validation", "evaluation")


def check_split(split: str) -> None:
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is unknown; choose one of {', '.join(SPLITS)}")


def position(name: str) -> float:
    """A number in [0, 1), uniform over file names: below 0.8 trains, the rest validates."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64


def select(names: list[str], split: str) -> list[str]:
    """The names of one split, ordered by their hash, so that a first hundred is a random hundred.

    "evaluation" is the validation part too, as in the paper; its readers keep RGB photographs only.
    """
    check_split(split)
    chosen = [name for name in names if (position(name) < 0.8) == (split == "train")]
    return sorted(chosen, key=position)
