"""Photographs from anywhere: formats, EXIF data, strips, names, and what file managers leave beside them."""

import os
import resource
import struct
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from c2f_lrp import cli, files
from c2f_lrp.attacks import PGDC
from c2f_lrp.datasets import imagenet, opening, splits, tiny_imagenet
from c2f_lrp.hierarchy import Hierarchy
from c2f_lrp.loading import load_classifier, load_images
from c2f_lrp.networks import network_file

RED, BLUE = (220, 30, 30), (30, 30, 220)
HIERARCHY = Hierarchy(("x", "y"), (("a",), ("b",)), (("a",), ("b",)))


def exif(*entries, end=b"") -> bytes:
    """EXIF data of (tag, type, count, four bytes) each, as they stand in the file."""
    fields = b"".join(struct.pack(">HHI", *entry[:3]) + entry[3] for entry in entries)
    return b"Exif\0\0MM\0*" + struct.pack(">IH", 8, len(entries)) + fields + b"\0\0\0\0" + end


TURNED = (0x0112, 3, 1, b"\0\6\0\0")  # orientation 6: the top of the scene is at the right of the file
# What is broken -> (EXIF data, whether its orientation can still be read)
BROKEN_EXIF = {
    "a number's tag that holds text": (exif((0x0100, 2, 3, b"ab\0\0"), TURNED), True),
    "a pointer to GPS data that is text": (exif(TURNED, (0x8825, 2, 3, b"ab\0\0")), True),
    "a fraction beyond any": (
        exif(TURNED, (0x011A, 10, 1, struct.pack(">I", 38)), end=struct.pack(">ii", -1, 0)),
        True,
    ),
    "a tag cut short": (exif((0x010F, 2, 4000, b"\0\0\xff\0"), TURNED), True),
    "an orientation in words": (exif((0x0112, 2, 2, b"6\0\0\0")), False),
    "an unknown orientation": (exif((0x0112, 3, 1, b"\0\x63\0\0")), False),
    "two orientations": (exif((0x0112, 3, 2, b"\0\6\0\1")), True),
    "an offset beyond the end": (b"Exif\0\0MM\0*\xff\xff\xff\xff", False),
    "nothing but its name": (b"Exif\0\0", False),
    "noise": (b"Exif\0\0" + bytes(range(256)), False),
}


@pytest.mark.parametrize("what", BROKEN_EXIF)
@pytest.mark.filterwarnings("error")
def test_broken_exif_costs_the_orientation_at_most(tmp_path, what):
    content, readable = BROKEN_EXIF[what]
    image = Image.new("RGB", (40, 30), RED)
    image.paste(BLUE, (20, 0, 40, 30))  # the right half
    image.save(tmp_path / "photo.jpg", exif=content, quality=95)
    upright = opening.open_photo(tmp_path / "photo.jpg")
    assert upright.size == ((30, 40) if readable else (40, 30))
    below_or_right = upright.getpixel((15, 35) if readable else (35, 15))
    assert np.abs(np.subtract(below_or_right, BLUE)).max() < 12  # JPEG


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_every_orientation_is_undone_once_in_every_format(tmp_path, orientation, kind):
    scene = Image.new("RGB", (64, 32), RED)
    scene.paste(BLUE, (0, 0, 16, 8))  # the upper left corner
    # As the camera wrote it: what undoes the turn, applied backwards.
    backwards = {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
    turn = backwards.get(orientation, opening.TURNS.get(orientation))
    data = Image.Exif()
    data[0x0112] = orientation
    (scene if turn is None else scene.transpose(turn)).save(tmp_path / "photo", kind, exif=data, quality=95)
    upright = opening.open_photo(tmp_path / "photo").convert("RGB")
    assert upright.size == (64, 32)
    assert np.abs(np.subtract(upright.getpixel((4, 2)), BLUE)).max() < 12
    assert np.abs(np.subtract(upright.getpixel((60, 30)), RED)).max() < 12


@pytest.mark.parametrize("kind", opening.FORMATS)
def test_every_format_is_read_whatever_the_file_is_called(tmp_path, kind):
    Image.new("RGB", (9, 9), RED).save(tmp_path / "photo.bin", kind)
    found = opening.open_photo(tmp_path / "photo.bin").convert("RGB").getpixel((4, 4))
    assert np.abs(np.subtract(found, RED)).max() < 12


def test_no_program_is_started_for_postscript(tmp_path, monkeypatch):
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n", encoding="utf-8")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    content = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\nshowpage\n%%EOF\n"
    (tmp_path / "photo.jpg").write_bytes(content)
    with pytest.raises(ValueError, match="it holds PostScript"):
        opening.open_photo(tmp_path / "photo.jpg")
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("size", [(1, 60_000), (60_000, 1), (3, 20_000)])
def test_a_strip_takes_little_memory_and_its_middle_is_seen(tmp_path, size):
    strip = np.zeros((size[1], size[0], 3), np.uint8)
    middle = tuple(slice(side // 2 - 2000, side // 2 + 2000) if side > 9 else slice(None) for side in size[::-1])
    strip[middle] = RED
    Image.fromarray(strip).save(tmp_path / "strip.png")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert (opening.resize_and_crop(opening.open_photo(tmp_path / "strip.png"), 224) == RED).all()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB; scaled whole it takes 12 GB


def test_slim_photographs_are_cropped_as_ever():
    """Beyond SLIMMEST the middle is cut out first, which moves samples by less than a pixel of the file."""
    for width, more in ((50, 0), (51, 40)):
        height = width * opening.SLIMMEST + more
        waves = 128 + 100 * np.sin(np.arange(height)[:, None] / 16 + np.arange(width) / 40)  # at most 7 from row to row
        image = Image.fromarray(waves.round().astype(np.uint8)).convert("RGB")
        scaled, (left, top) = opening.scaled(image.size, 64)
        whole = image.resize(scaled, Image.Resampling.BICUBIC).crop((left, top, left + 64, top + 64))
        moved = np.abs(opening.resize_and_crop(image, 64).astype(int) - np.asarray(whole)).max()
        assert moved <= (7 if more else 0)


def clutter(folder):
    """What Finder, Explorer and others leave in a folder of photographs, and what they link to in vain."""
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._0.jpg", ".hidden.jpg", "Icon\r"):
        (folder / name).write_bytes(b"\0\5\26\7Mac OS X")
    (folder / "moved.jpg").symlink_to(folder / "nowhere.jpg")
    (folder / "more.jpg").mkdir()
    (folder / "notes.txt").write_text("notes", encoding="utf-8")
    (folder / "photo.heic").write_bytes(b"")
    return {
        "of a file manager, or hidden": 6,
        "links to nowhere": 1,
        "folders inside a class": 1,
        ".txt files, which are not read": 1,
        ".heic files, which are not read": 1,
    }


def test_what_is_no_photograph_is_passed_over_and_counted(tmp_path, capsys):
    for name in "ab":
        (tmp_path / name).mkdir()
        for n in range(9):
            Image.new("RGB", (64, 64)).save(tmp_path / name / f"{n}.jpg")
    expected = clutter(tmp_path / "a")
    assert opening.photographs_in(tmp_path / "a")[1] == expected
    parts = [imagenet.find(tmp_path, HIERARCHY, split, 64, inside="") for split in ("train", "validation")]
    assert sum(map(len, parts)) == 18
    (tmp_path / "own.csv").write_text("folder,coarse\na,x\nb,y\n", encoding="utf-8")
    arguments = ["data", "check", "--profile", "folder", "--root", str(tmp_path), "--hierarchy"]
    assert cli.main([*arguments, str(tmp_path / "own.csv")]) == 0
    printed = capsys.readouterr().out
    for why, count in expected.items():
        assert f"\n  {count} {why}\n" in printed


def test_tiny_imagenet_reads_files_by_where_they_lie(tmp_path):
    """Whatever they are called, and whatever else lies there; of the published names the split stays the same."""
    hierarchy = Hierarchy(("fish", "bird"), (("goldfish",), ("goose",)), (("n01443537",), ("n01855672",)))
    for wnid, colour in (("n01443537", RED), ("n01855672", BLUE)):
        folder = tmp_path / "train" / wnid / "images"
        folder.mkdir(parents=True)
        for n in range(10):
            Image.new("RGB", (64, 64), colour).save(folder / f"{wnid}_{n}.JPEG", quality=95)
            Image.new("RGB", (64, 64), colour).save(folder / f"{n}.png")
        clutter(folder)
    images = [tiny_imagenet.read(tmp_path, hierarchy, split) for split in ("train", "validation")]
    assert sum(map(len, images)) == 40
    for part, split in zip(images, ("train", "validation"), strict=True):
        for pixels, coarse, name in zip(part.pixels, part.coarse, part.names, strict=True):
            assert np.abs(np.subtract(pixels[:, 9, 9].tolist(), (RED, BLUE)[coarse])).max() < 12
            assert (splits.position(name) < 0.8) == (split == "train")
    assert "n01443537_0.JPEG" in images[0].names + images[1].names
    assert "n01855672/0.png" in images[0].names + images[1].names


def test_names_in_any_bytes_are_read_split_and_printed(tmp_path):
    """A name that is no UTF-8, as of an archive from another system; the command prints it with what is wrong."""
    for name in "ab":
        (tmp_path / name).mkdir()
        for n in range(9):
            Image.new("RGB", (64, 64)).save(tmp_path / name / f"{n}.jpg")
    strange = os.fsencode(tmp_path / "a") + b"/caf\xe9.jpg"
    with open(strange, "wb") as file:
        file.write(b"no image")
    (tmp_path / "own.csv").write_text("folder,coarse\na,x\nb,y\n", encoding="utf-8")
    command = [sys.executable, "-m", "c2f_lrp.cli", "data", "check", "--profile", "folder", "--root", str(tmp_path)]
    for encoding in ("utf-8", "latin-1", "ascii", "cp1252"):
        ran = subprocess.run(
            [*command, "--hierarchy", str(tmp_path / "own.csv")],
            capture_output=True,
            env=os.environ | {"PYTHONIOENCODING": encoding},
        )
        assert ran.returncode == 1 and b"caf\\udce9.jpg cannot be read as an image" in ran.stdout, ran.stderr
        assert b"Traceback" not in ran.stderr


def test_a_file_may_have_the_longest_name_there_is(tmp_path):
    for name in ("写" * 85, "x" * 255):
        with files.atomic_write(tmp_path / name) as part:
            part.write_bytes(b"x")
        assert (tmp_path / name).read_bytes() == b"x"


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"], ids=["lf", "crlf", "cr"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_classes_in_any_script_are_read_and_name_their_files(tmp_path, ending, encoding):
    names = ["Käfer", "猫", "हिन्दी", "ปลา", "חתול", "می‌خواهم", "Ελλάδα", "Ж"]
    lines = ["folder,coarse", *(f"{n}/{name},{name}" for n, name in enumerate(names)), ""]
    (tmp_path / "own.csv").write_bytes(ending.join(lines).encode(encoding))
    hierarchy = Hierarchy.from_folders_csv(tmp_path / "own.csv")
    assert hierarchy.coarse_names == tuple(names)
    paths = [network_file(tmp_path, hierarchy, n) for n in range(len(names))]
    assert len(set(paths)) == len(names)
    for path in paths:
        path.write_bytes(b"x")


@pytest.fixture(scope="module")
def plain():
    """A classifier, images, and what one step of PGD does to them."""
    classifier, images = load_classifier("scenes"), load_images("scenes", limit=4)
    return classifier, images, PGDC(iterations=1)(classifier, images.pixels, images.coarse, images.fine)


STATES = {
    "pixels that require a gradient": lambda images: (
        images.pixels.clone().requires_grad_(),
        images.coarse,
        images.fine,
    ),
    "labels in lists": lambda images: (images.pixels, images.coarse.tolist(), images.fine.tolist()),
    "labels in arrays": lambda images: (images.pixels, images.coarse.numpy(), images.fine.numpy()),
    "labels in tuples of numpy's numbers": lambda images: (images.pixels, tuple(images.coarse.numpy()), images.fine),
    "labels of 32 bits": lambda images: (images.pixels, images.coarse.int(), images.fine.to(torch.uint8)),
    "pixels in another order of memory": lambda images: (
        images.pixels.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2),
        images.coarse,
        images.fine,
    ),
}


def same(result, expected) -> None:
    assert torch.equal(result.perturbation, expected.perturbation) and torch.equal(result.fooled, expected.fooled)
    assert not result.perturbation.requires_grad and not result.perturbation.is_inference()


@pytest.mark.parametrize("state", STATES)
def test_an_attack_takes_images_and_labels_in_every_state(plain, state):
    classifier, images, expected = plain
    same(PGDC(iterations=1)(classifier, *STATES[state](images)), expected)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_an_attack_does_not_mind_the_caller_s_mode(plain, mode):
    classifier, images, expected = plain
    with mode():
        given = images.pixels.clone()  # in inference mode a tensor that no gradient can follow
        same(PGDC(iterations=1)(classifier, given, images.coarse.clone(), images.fine), expected)


def test_another_default_precision_or_device_changes_nothing(plain):
    """The classifier is read in single precision and images on the CPU, so they fit each other."""
    _, _, expected = plain
    torch.set_default_dtype(torch.float64)
    try:
        classifier, images = load_classifier("scenes"), load_images("scenes", limit=4)
        assert images.pixels.dtype == next(classifier.parameters()).dtype == torch.float32
        same(PGDC(iterations=1)(classifier, images.pixels, images.coarse, images.fine), expected)
    finally:
        torch.set_default_dtype(torch.float32)
    with torch.device("meta"):
        images = load_images("scenes", limit=4)
        assert {tensor.device.type for tensor in vars(images).values() if torch.is_tensor(tensor)} == {"cpu"}
