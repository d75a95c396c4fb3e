"""Tiny ImageNet: real ImageNet photographs at 64x64 with a bounding box each.

Layout, as published: ROOT/train/<wnid>/images/<wnid>_<n>.JPEG and ROOT/train/<wnid>/<wnid>_boxes.txt. All 200
classes or only the hierarchy's may be there. The published validation folder is not used: like the paper, the
training photographs are split 80/20.
"""

from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np

from c2f_lrp.datasets import Checked, Images, LazyImages, stack
from c2f_lrp.datasets.imagenet import Photographs, checked, chosen, opened
from c2f_lrp.datasets.opening import look_at, open_of_size, photographs_in, printable
from c2f_lrp.datasets.splits import SPLITS, check_split
from c2f_lrp.hierarchy import Hierarchy
from c2f_lrp.profiles import Profile

SIZE = 64
LAYOUT = "--root must be the unpacked tiny-imagenet-200 folder"


def read(root: Path | None, hierarchy: Hierarchy, split: str, limit: int | None = None) -> Images:
    """The photographs of one split, in the order of their hash, pixels uint8; at most `limit` of them.

    "evaluation" takes RGB photographs only, as the paper does; the other splits read every kind as RGB.
    Raises FileNotFoundError where the layout is another one, ValueError where a photograph is damaged.
    """
    found = find(root, hierarchy, split)
    each = ((row, np.asarray(image.convert("RGB"))) for row, image in opened(found, split, limit, open_64))
    rows, pixels = zip(*each, strict=True)
    return described(found[list(rows)], pixels, boxes_of(root, hierarchy))


def lazy(root: Path | None, hierarchy: Hierarchy, split: str, limit: int | None = None) -> LazyImages:
    """The photographs of one split, read when they are asked for, at most `limit` of them.

    Each is opened once at first, so that a damaged one is met in time.
    """
    found = find(root, hierarchy, split)
    kept = found[[row for row, _ in opened(found, split, limit, open_64)]]
    boxes = boxes_of(root, hierarchy)

    def read_rows(rows: list[int]) -> Images:
        few = kept[rows]
        return described(few, [np.asarray(open_64(path).convert("RGB")) for path in few.paths], boxes)

    return LazyImages(kept.coarse, kept.fine, read_rows)


open_64 = partial(open_of_size, size=SIZE)


def find(root: Path | None, hierarchy: Hierarchy, split: str) -> Photographs:
    """The photographs of one split, in the order of their hash; none is opened yet. Errors are those of `read`."""
    check_split(split)
    train, missing = class_folders(root, hierarchy)
    if missing:
        wnids = sum(map(len, hierarchy.ids))
        raise FileNotFoundError(
            f"{len(missing)} of {wnids} class folders are missing under {train}, such as {missing[0]}/images; {LAYOUT}"
        )
    found = chosen(listed(train, hierarchy)[0], hierarchy, split, SIZE)
    if not found:
        raise ValueError(f"{train} holds no {split} photographs of the hierarchy's classes")
    return found


def class_folders(root: Path | None, hierarchy: Hierarchy) -> tuple[Path, list[str]]:
    """The folder ROOT/train, and the hierarchy's classes that have no images/ there."""
    if root is None:
        raise ValueError("the profile tiny-imagenet reads photographs: give their folder with --root (or root=...)")
    train = Path(root) / "train"
    return train, [wnid for ids in hierarchy.ids for wnid in ids if not (train / wnid / "images").is_dir()]


def listed(train: Path, hierarchy: Hierarchy) -> tuple[dict[str, tuple[Path, str]], Counter]:
    """{name: (path, wnid)} of all photographs, and what was passed over, by why.

    A name is the file's own, as published, which begins with its class; of a file that is called otherwise the class
    stands before it.
    """
    places, passed_over = {}, Counter()
    for wnid in (wnid for ids in hierarchy.ids for wnid in ids if (train / wnid / "images").is_dir()):
        photographs, others = photographs_in(train / wnid / "images")
        passed_over += others
        places |= {name_of(path.name, wnid): (path, wnid) for path in photographs}
    return places, passed_over


def name_of(file: str, wnid: str) -> str:
    return printable(file if file.startswith(f"{wnid}_") else f"{wnid}/{file}")


def boxes_of(root: Path | None, hierarchy: Hierarchy) -> dict[str, tuple[int, int, int, int]]:
    """Name of a photograph -> (x0, y0, x1, y1), corners included, of all classes that have a file of them.

    Raises ValueError that names the first line that is no box.
    """
    (train, _), boxes = class_folders(root, hierarchy), {}
    for wnid in (wnid for ids in hierarchy.ids for wnid in ids):
        found, problems = read_boxes(train / wnid / f"{wnid}_boxes.txt")
        if problems:
            raise ValueError(problems[0])
        boxes |= {name_of(file, wnid): box for file, box in found.items()}
    return boxes


def described(found: Photographs, pixels, boxes: dict) -> Images:
    masks = [box_mask(boxes.get(name)) for name in found.names]
    return stack(pixels, found.coarse.tolist(), found.fine.tolist(), masks, found.names)


def read_boxes(path: Path) -> tuple[dict[str, tuple[int, int, int, int]], list[str]]:
    """File name -> (x0, y0, x1, y1), empty where there is no such file; and a line for each line that is no box."""
    boxes: dict[str, tuple[int, int, int, int]] = {}
    problems: list[str] = []
    if not path.is_file():
        return boxes, problems
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="surrogateescape").splitlines(), start=1):
        name, *corners = line.split("\t")
        if len(corners) == 4 and all(corner.isascii() and corner.isdigit() for corner in corners):
            x0, y0, x1, y1 = map(int, corners)
            boxes[name] = x0, y0, x1, y1
        else:
            problems.append(f"{path}, line {number}: {line[:60]!r} must be a file name and four whole numbers")
    return boxes, problems


def box_mask(box: tuple[int, int, int, int] | None) -> np.ndarray:
    """Bool (64, 64), True inside the box; all True where no box is known."""
    mask = np.zeros((SIZE, SIZE), dtype=bool)
    x0, y0, x1, y1 = box or (0, 0, SIZE - 1, SIZE - 1)
    mask[y0 : y1 + 1, x0 : x1 + 1] = True
    return mask


class Reader:
    """Tiny ImageNet's photographs below `root` (see `c2f_lrp.datasets.Reader`)."""

    splits = SPLITS
    seeds: ClassVar[dict] = {}

    def __init__(self, profile: Profile, hierarchy: Hierarchy, root: Path | None):
        self.hierarchy, self.root = hierarchy, root
        self.looked: dict[Path, tuple[str | None, str]] = {}  # by `check`: two splits share photographs

    def read(self, split: str, limit: int | None = None, processes: int = 1) -> Images:
        return read(self.root, self.hierarchy, split, limit)

    def lazy(self, split: str, limit: int | None = None) -> LazyImages:
        return lazy(self.root, self.hierarchy, split, limit)

    def check(self, split: str, processes: int = 1) -> Checked:
        train, missing = class_folders(self.root, self.hierarchy)
        if len(missing) == sum(map(len, self.hierarchy.ids)):
            find(self.root, self.hierarchy, split)  # says so
        places, passed_over = listed(train, self.hierarchy)
        found = chosen(places, self.hierarchy, split, SIZE)
        self.looked |= look_at([path for path in found.paths if path not in self.looked], processes, SIZE)
        told = checked(found, split, self.looked, passed_over)
        problems = [f"{train / wnid / 'images'} is missing, the folder of a class" for wnid in missing]
        for wnid in (wnid for ids in self.hierarchy.ids for wnid in ids):
            problems += read_boxes(train / wnid / f"{wnid}_boxes.txt")[1]
        return replace(told, problems=problems + told.problems)
