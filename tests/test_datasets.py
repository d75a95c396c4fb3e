"""Reading photographs: the split, RGB only for evaluation, boxes, and one clear error for each thing wrong."""

import numpy as np
import pytest
import torch
from PIL import Image

import c2f_lrp
from c2f_lrp.datasets import imagenet, scenes, splits, tiny_imagenet
from c2f_lrp.hierarchy import Hierarchy

WNIDS = (("n01443537",), ("n01855672", "n02002724"))
HIERARCHY = Hierarchy(("fish", "bird"), (("goldfish",), ("goose", "black stork")), WNIDS)


def photograph(seed, mode="RGB", size=(64, 64)):
    generator = np.random.default_rng(seed)
    image = Image.fromarray(generator.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    return image.convert(mode)


@pytest.fixture
def tiny(tmp_path):
    """Tiny ImageNet's layout with 12 photographs in each of three classes, the first six of each class grey."""
    for k, wnid in enumerate(wnid for ids in WNIDS for wnid in ids):
        folder = tmp_path / "train" / wnid
        (folder / "images").mkdir(parents=True)
        for n in range(12):
            photograph(100 * k + n, "L" if n < 6 else "RGB").save(folder / "images" / f"{wnid}_{n}.JPEG")
        boxes = [f"{wnid}_{n}.JPEG\t{n}\t2\t40\t50" for n in range(12)]
        (folder / f"{wnid}_boxes.txt").write_text("\n".join(boxes) + "\n")
    return tmp_path


def test_the_split_is_four_to_one_and_the_same_in_any_order():
    names = [f"n{i:08d}_{i}.JPEG" for i in range(5000)]
    training, validation = (splits.select(names, split) for split in ("train", "validation"))
    assert sorted(training + validation) == sorted(names)
    assert 0.78 < len(training) / 5000 < 0.82  # four standard errors are 0.023
    assert splits.select(names[::-1], "train") == training
    assert splits.select(names, "evaluation") == validation


def test_tiny_imagenet_is_read_with_labels_and_boxes(tiny):
    parts = {split: tiny_imagenet.read(tiny, HIERARCHY, split) for split in splits.SPLITS}
    assert len(parts["train"]) + len(parts["validation"]) == 36
    assert not set(parts["train"].names) & set(parts["validation"].names)
    for images in parts.values():
        assert images.pixels.dtype == torch.uint8 and images.pixels.shape[1:] == (3, 64, 64)
        for row, name in enumerate(images.names):
            wnid, n = name.removesuffix(".JPEG").split("_")
            assert (images.coarse[row], images.fine[row]) == HIERARCHY.locate(wnid)
            inside = images.object_masks[row].nonzero()
            assert inside.amin(0).tolist() == [2, int(n)] and inside.amax(0).tolist() == [50, 40]
            with Image.open(tiny / "train" / wnid / "images" / name) as image:
                expected = np.asarray(image.convert("RGB"))
            np.testing.assert_array_equal(images.pixels[row].permute(1, 2, 0), expected)


def test_evaluation_takes_rgb_photographs_only(tiny):
    validation, evaluation = (tiny_imagenet.read(tiny, HIERARCHY, split) for split in ("validation", "evaluation"))
    rgb = [name for name in validation.names if int(name.removesuffix(".JPEG").split("_")[1]) >= 6]
    assert list(evaluation.names) == rgb and len(rgb) < len(validation)
    assert tiny_imagenet.read(tiny, HIERARCHY, "evaluation", 1).names == tuple(rgb[:1])


def test_imagenet_folder_at_full_size(tmp_path):
    for wnid in ("n01443537", "n02002724", "n99999999"):  # the last one is outside the hierarchy
        (tmp_path / "train" / wnid).mkdir(parents=True)
        for n in range(10):
            mode = "CMYK" if n % 2 else "RGB"
            photograph(n, mode, size=(90, 70)).save(tmp_path / "train" / wnid / f"{wnid}_{n}.JPEG")
    both = [imagenet.read(imagenet.find(tmp_path, HIERARCHY, split, 32), split) for split in ("train", "validation")]
    assert sum(map(len, both)) == 20 and both[0].pixels.shape[1:] == (3, 32, 32)
    evaluation = imagenet.read(imagenet.find(tmp_path, HIERARCHY, "evaluation", 32), "evaluation")
    assert evaluation.names and all(int(name[-6]) % 2 == 0 for name in evaluation.names)


def test_fit_takes_the_centre_without_distortion():
    wide = Image.new("RGB", (448, 256))
    wide.paste((255, 0, 0), (112, 16, 336, 240))  # the central 224x224 after the shorter side is 256
    assert (imagenet.resize_and_crop(wide, 224) == [255, 0, 0]).all()
    assert imagenet.resize_and_crop(photograph(0, size=(33, 500)), 64).shape == (64, 64, 3)


@pytest.mark.parametrize("split", splits.SPLITS)
@pytest.mark.parametrize("data", ["scenes", "tiny", "imagenet"])
def test_lazy_images_are_those_that_are_read(data, split, tiny):
    if data == "scenes":
        read, lazy = scenes.read(split, 7), scenes.lazy(split, 7)
    elif data == "tiny":
        read, lazy = (function(tiny, HIERARCHY, split, 5) for function in (tiny_imagenet.read, tiny_imagenet.lazy))
    else:
        for folder in (tiny / "train").iterdir():
            for path in (folder / "images").iterdir():
                path.rename(folder / path.name)
        found = imagenet.find(tiny, HIERARCHY, split, 32)
        read, lazy = (function(found, split, 5) for function in (imagenet.read, imagenet.lazy))
    assert len(read) == len(lazy) > 1
    assert torch.equal(read.coarse, lazy.coarse) and torch.equal(read.fine, lazy.fine)
    for rows in (slice(None), [len(read) - 1, 0], read.coarse == read.coarse[0]):
        assert lazy[rows].names == read[rows].names
        for name, value in vars(read[rows]).items():
            found = getattr(lazy[rows], name)
            assert torch.equal(found, value) if torch.is_tensor(value) else found == value, name


def test_load_images_of_one_class_are_those_among_all():
    every = c2f_lrp.load_images("scenes", limit=40)
    label = c2f_lrp.get_profile("scenes").hierarchy().coarse_index("vehicle")
    some, same = c2f_lrp.load_images("scenes", limit=40, coarse="vehicle"), every[every.coarse == label]
    assert len(some) > 1 and some.names == same.names
    for name, value in vars(same).items():
        if torch.is_tensor(value):
            assert torch.equal(getattr(some, name), value)


def test_load_images_gives_float_pixels_and_checks_the_limit():
    images = c2f_lrp.load_images("scenes", limit=3)
    assert images.pixels.dtype == torch.float32 and images.pixels.max() > 1
    assert images[[2, 0]].names == (images.names[2], images.names[0]) and len(images[images.coarse == 1]) == 1
