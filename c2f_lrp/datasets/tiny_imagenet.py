"""Tiny ImageNet: real ImageNet photographs at 64x64 with a bounding box each.

Layout, as published: ROOT/train/<wnid>/images/<wnid>_<n>.JPEG and ROOT/train/<wnid>/<wnid>_boxes.txt. All 200
classes or only the hierarchy's may be there. The published validation folder is not used: like the paper, the
training photographs are split 80/20.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from PIL import Image
from tqdm.auto import tqdm

from c2f_lrp.datasets import Checked, Images, LazyImages, stack
from c2f_lrp.datasets.imagenet import open_photo
from c2f_lrp.datasets.splits import SPLITS, select
from c2f_lrp.hierarchy import Hierarchy
from c2f_lrp.profiles import Profile

SIZE = 64


def read(root: Path | None, hierarchy: Hierarchy, split: str, limit: int | None = None) -> Images:
    """The photographs of one split, in the order of their hash, pixels uint8; at most `limit` of them.

    "evaluation" takes RGB photographs only, as the paper does; the other splits read every kind as RGB.
    Raises FileNotFoundError where the layout is another one, ValueError where a photograph is damaged.
    """
    rows = list(opened(root, hierarchy, split, limit))
    boxes = boxes_of(root, hierarchy)
    names = tuple(path.name for path, _ in rows)
    return described([pixels for _, pixels in rows], names, hierarchy, boxes)


def lazy(root: Path | None, hierarchy: Hierarchy, split: str, limit: int | None = None) -> LazyImages:
    """The photographs of one split, read when they are asked for, at most `limit` of them.

    Each is opened once at first, so that a damaged one is met in time.
    """
    paths = [path for path, _ in opened(root, hierarchy, split, limit)]
    boxes = boxes_of(root, hierarchy)
    coarse, fine = torch.tensor([hierarchy.locate(path.name.split("_")[0]) for path in paths]).T

    def read_rows(rows: list[int]) -> Images:
        few = [paths[row] for row in rows]
        pixels = [np.asarray(open_image(path).convert("RGB")) for path in few]
        return described(pixels, tuple(path.name for path in few), hierarchy, boxes)

    return LazyImages(coarse, fine, read_rows)


def opened(root: Path | None, hierarchy: Hierarchy, split: str, limit: int | None) -> Iterator[tuple[Path, np.ndarray]]:
    """Path and RGB pixels of the photographs of a split, at most `limit`; ValueError where there is none."""
    train = check_root(root, hierarchy)
    names = [path.name for ids in hierarchy.ids for wnid in ids for path in (train / wnid / "images").iterdir()]
    count = 0
    for name in tqdm(select(names, split), desc=f"reading {split} photographs", leave=False):
        if limit is not None and count == limit:
            return
        path = train / name.split("_")[0] / "images" / name
        with open_image(path) as image:
            if split != "evaluation" or image.mode == "RGB":
                count += 1
                yield path, np.asarray(image.convert("RGB"))
    if not count:
        rgb = " in RGB, which evaluation takes alone" if split == "evaluation" else ""
        raise ValueError(f"{train} holds no {split} photographs of the hierarchy's classes{rgb}")


def boxes_of(root: Path | None, hierarchy: Hierarchy) -> dict[str, tuple[int, int, int, int]]:
    """File name -> (x0, y0, x1, y1), of all classes."""
    train, boxes = check_root(root, hierarchy), {}
    for wnid in (wnid for ids in hierarchy.ids for wnid in ids):
        boxes |= read_boxes(train / wnid / f"{wnid}_boxes.txt")
    return boxes


def described(pixels: list[np.ndarray], names: tuple[str, ...], hierarchy: Hierarchy, boxes: dict) -> Images:
    coarse, fine = zip(*(hierarchy.locate(name.split("_")[0]) for name in names), strict=True)
    return stack(pixels, coarse, fine, [box_mask(boxes.get(name)) for name in names], names)


def check_root(root: Path | None, hierarchy: Hierarchy) -> Path:
    """The folder ROOT/train, or an error that says which of the hierarchy's class folders are missing."""
    if root is None:
        raise ValueError("the profile tiny-imagenet reads photographs: give their folder with --root (or root=...)")
    train = Path(root) / "train"
    wnids = [wnid for ids in hierarchy.ids for wnid in ids]
    missing = [wnid for wnid in wnids if not (train / wnid / "images").is_dir()]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(wnids)} class folders are missing under {train}, such as "
            f"{missing[0]}/images; --root must be the unpacked tiny-imagenet-200 folder"
        )
    return train


def open_image(path: Path) -> Image.Image:
    """The decoded photograph in its own mode, 64x64."""
    image = open_photo(path)
    if image.size != (SIZE, SIZE):
        raise ValueError(f"{path} is {image.width}x{image.height}; Tiny ImageNet's photographs are {SIZE}x{SIZE}")
    return image


def read_boxes(path: Path) -> dict[str, tuple[int, int, int, int]]:
    """File name -> (x0, y0, x1, y1), corners included; empty where the class has no box file."""
    if not path.is_file():
        return {}
    boxes = {}
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1):
        name, *corners = line.split("\t")
        if len(corners) != 4 or not all(corner.isdigit() for corner in corners):
            raise ValueError(f"{path}, line {number}: {line!r} must be a file name and four whole numbers")
        x0, y0, x1, y1 = map(int, corners)
        boxes[name] = x0, y0, x1, y1
    return boxes


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

    def read(self, split: str, limit: int | None = None, processes: int = 1) -> Images:
        return read(self.root, self.hierarchy, split, limit)

    def lazy(self, split: str, limit: int | None = None) -> LazyImages:
        return lazy(self.root, self.hierarchy, split, limit)

    def check(self, split: str, processes: int = 1) -> Checked:
        return Checked(self.read(split).coarse, [])
