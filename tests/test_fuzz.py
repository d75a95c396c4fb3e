"""Drawn at random: the bytes of photographs and of tables, and the command's options. Whatever comes, one clear answer.

Quick by default. For longer: C2F_LRP_FUZZ=20000 python -m pytest tests/test_fuzz.py, that many examples for each test.
"""

import contextlib
import io
import os
import random
import struct
import tempfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file
from torchvision.models import squeezenet1_1

from c2f_lrp import cli, files, photos, reproduce
from c2f_lrp.attacks import ATTACKS
from c2f_lrp.datasets import opening
from c2f_lrp.hierarchy import Hierarchy
from c2f_lrp.profiles import PROFILES

EXAMPLES = int(os.environ.get("C2F_LRP_FUZZ", "60"))
fuzz = settings(
    max_examples=EXAMPLES, deadline=None, derandomize=EXAMPLES < 1000, suppress_health_check=list(HealthCheck)
)


def seeds() -> list[bytes]:
    """Tiny files of every format, mode and way of packing pixels that Pillow writes: what random bytes are put into."""
    ways = {
        "JPEG": [{}, {"progressive": True}, {"comment": b"x"}, {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"}],
        "PNG": [{}, {"bits": 2}, {"compress_level": 0}],
        "WEBP": [{}, {"lossless": True}],
        "BMP": [{}],
        "GIF": [{}, {"save_all": True, "append_images": [Image.new("L", (5, 4), 9)]}],
        "TIFF": [{"compression": name} for name in (None, "tiff_lzw", "packbits", "tiff_adobe_deflate", "jpeg")],
    }
    found = []
    for kind, options in ways.items():
        for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I", "I;16", "F", "YCbCr", "LAB"):
            for option in options:
                file = io.BytesIO()
                with contextlib.suppress(Exception):  # not every format knows every mode
                    Image.new(mode, (5, 4), 1 if mode in ("1", "L", "P", "I", "F") else None).save(file, kind, **option)
                    found.append(file.getvalue())
    return found


SEEDS = seeds()


def test_the_seeds_are_of_every_format():
    assert {Image.open(io.BytesIO(seed)).format for seed in SEEDS} == set(opening.FORMATS)


@st.composite
def spoilt(draw) -> bytes:
    """A tiny photograph of which some bytes are others, some are gone or there twice, and numbers are large or small.

    The checksums of a PNG's parts are made anew half of the time, or nothing behind them is ever reached.
    """
    content = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(0, 4))):
        if not content:
            break
        place = draw(st.integers(0, min(len(content), 200) - 1) | st.integers(0, len(content) - 1))
        change = draw(st.sampled_from(("byte", "number", "cut", "twice", "gone")))
        if change == "byte":
            content[place] = draw(st.integers(0, 255))
        elif change == "number":
            number = draw(st.sampled_from((0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000)))
            content[place : place + 4] = struct.pack(draw(st.sampled_from("<>")) + "I", number)
        elif change == "cut":
            del content[place:]
        elif change == "twice":
            content[place:place] = content[place : place + draw(st.integers(1, 40))]
        else:
            del content[place : place + draw(st.integers(1, 8))]
    return summed(bytes(content)) if draw(st.booleans()) else bytes(content)


def summed(content: bytes) -> bytes:
    """A PNG file with right checksums, as far as its parts can be followed; others as they are."""
    if not content.startswith(b"\x89PNG\r\n\x1a\n"):
        return content
    made, place = bytearray(content[:8]), 8
    while place + 12 <= len(content):
        (length,) = struct.unpack(">I", content[place : place + 4])
        part = content[place + 4 : place + 8 + length]
        made += content[place : place + 4] + part + struct.pack(">I", zlib.crc32(part))
        place += 12 + length
    return bytes(made)


@given(content=spoilt())
@fuzz
def test_a_photograph_is_read_or_refused_by_name(content):
    try:
        image = opening.decode(io.BytesIO(content), "photo.jpg")
        pixels = opening.resize_and_crop(image, 8)
    except ValueError as error:
        assert str(error).startswith("photo.jpg ") and "\n" not in str(error), error
    else:
        assert pixels.shape == (8, 8, 3) and pixels.dtype == np.uint8


TEXT = st.text(st.sampled_from('abä猫 ,;"\n\r\t\0/\\.-_x1' + "\u2028\ufeff\u0308"), max_size=40)


@st.composite
def table(draw) -> bytes:
    """What may be a csv of classes: lines of cells in some encoding, perhaps spoilt."""
    header = draw(st.sampled_from(("folder,coarse", "folder,coarse,name", "wnid,class_index,name,coarse,fine_index")))
    cells = st.sampled_from(
        ("a", "b", "n01440764", "fish", "fish/a", "0", "1", "", "../a", '"q"', '"', "猫", "a b", "a_b")
    )
    lines = draw(st.lists(st.lists(cells, min_size=1, max_size=5).map(",".join), max_size=6))
    text = draw(st.sampled_from(("\n", "\r\n", "\r"))).join([header, *lines, draw(TEXT)])
    content = text.encode(draw(st.sampled_from(("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"))))
    return content[: draw(st.integers(0, len(content)))] if draw(st.booleans()) else content


@given(content=table() | st.binary(max_size=60) | TEXT.map(lambda text: text.encode("latin-1", "replace")))
@fuzz
def test_a_table_is_read_or_refused_by_file_and_line(content):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "own.csv"
        path.write_bytes(content)
        try:
            hierarchy = Hierarchy.from_folders_csv(path)
        except ValueError as error:
            assert str(error).startswith(f"{path}, line "), error
        else:
            assert hierarchy.n_coarse >= 1 and all(hierarchy.n_fine)
        with contextlib.suppress(ValueError):
            assert all(isinstance(row, dict) for _, row in files.csv_table(path))


WORDS = st.sampled_from(
    ("", "0", "-1", "1", "10", "2.5", "nan", "inf", "1e400", "99999999999999999999999", "x", "ä", "猫", "\udce9", "a b")
    + (
        "%s",
        "%",
        "-",
        "--",
        "/",
        ".",
        "..",
        "/nowhere",
        "nowhere.jpg",
        "[",
        "[1, 2]",
        "{}",
        "null",
        "*",
        "a\nb",
        "~",
        "$HOME",
    )
)
PLACES = st.sampled_from(("here", "here/photo.jpg", "here/text.jpg", "nowhere", "here/new", "", "/dev/null", "x" * 300))
PARAMETERS = st.sampled_from(
    ("n_images", "iterations", "epsilons", "lr", "p", "step_scale", "coarse_org", "profile", "x")
)
PROFILE = ("--profile", st.sampled_from(tuple(PROFILES)) | WORDS)
OPTIONS = {
    ("attack",): [
        PROFILE,
        ("--attack", st.sampled_from(tuple(ATTACKS)) | WORDS),
        ("--eps", WORDS),
        ("--out", PLACES),
        ("--weights", PLACES),
        ("-p", st.sampled_from(("lr", "p", "iterations", "init", "rule", "seed", "x")), WORDS),
        ("--device", WORDS),
        ("--json",),
        ("--quiet",),
        ("--network", st.sampled_from(("torchvision:squeezenet1_1", "torchvision:x", "timm:x", ":")) | WORDS),
        ("--file", PLACES | st.just("here/weights.safetensors")),
        ("--mean", WORDS),
        ("--std", WORDS),
        ("--size", WORDS | st.just("8")),
    ],
    ("completion",): [("bash",), ("zsh",), ("fish",)],
    ("reproduce",): [
        PROFILE,
        ("--only", st.sampled_from(("table_1", "figure_1", "01_hierarchy_and_data")) | WORDS),
        ("--root", PLACES),
        ("--out", PLACES),
        ("--weights", PLACES),
        ("--resume",),
        ("-p", PARAMETERS, WORDS),
        ("--workers", WORDS),
        ("--scheduler", WORDS),
    ],
    ("verify",): [("--weights", PLACES)],
    ("data", "check"): [PROFILE, ("--root", PLACES), ("--hierarchy", PLACES), ("--weights", PLACES)],
    ("data", "extract"): [("--root", PLACES)],
    ("data", "weights"): [("--file", PLACES), ("--out", PLACES)],
    ("data", "export-scenes"): [("--out", PLACES), ("-n", st.sampled_from(("0", "-1", "x", "2", "1e3")))],
    ("train",): [
        PROFILE,
        ("--root", PLACES),
        ("--out", PLACES),
        ("--hierarchy", PLACES),
        ("--pretrained", PLACES),
        ("--seed", WORDS),
        ("--device", WORDS),
    ],
}
TAKES_PLACES = {("attack",), ("verify",), ("data", "extract")}


@st.composite
def command(draw) -> list[str]:
    words = draw(st.sampled_from(tuple(OPTIONS)))
    line = [*words, *(draw(st.lists(PLACES | WORDS, max_size=2)) if words in TAKES_PLACES else [])]
    for option in draw(st.lists(st.sampled_from(OPTIONS[words]), max_size=4)):
        line += [part if isinstance(part, str) else draw(part) for part in option]
    return line


class Reached(ValueError):
    """Hours of work would begin here."""


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A folder to type commands in; what would take long, or reach the network or the user's own data, does not."""
    patch, folder = pytest.MonkeyPatch(), tmp_path_factory.mktemp("fuzz")
    (folder / "here").mkdir()
    Image.new("RGB", (9, 9)).save(folder / "here" / "photo.jpg")
    (folder / "here" / "text.jpg").write_bytes(b"text")
    save_file(squeezenet1_1().state_dict(), folder / "here" / "weights.safetensors")

    def stop(*_, **__):
        raise Reached("reached")

    patch.chdir(folder)
    patch.setenv("C2F_LRP_RUNS", str(folder / "runs"))
    patch.setenv("C2F_LRP_FIGURES", str(folder / "figures"))
    patch.setenv("XDG_DATA_HOME", str(folder / "data"))
    patch.setattr(reproduce.papermill, "execute_notebook", stop)
    patch.setattr(photos, "panels", stop)
    patch.setattr("c2f_lrp.training.train", stop)
    patch.setattr("c2f_lrp.pretrained.fetch", stop)
    patch.setattr("c2f_lrp.cluster.local", stop)
    patch.setattr("c2f_lrp.cluster.remote", stop)
    patch.setattr("c2f_lrp.datasets.scenes.read", stop)
    yield folder
    patch.undo()


@given(line=command(), order=st.integers(0, 2**32))
@fuzz
def test_a_command_answers_in_one_line(here, line, order):
    random.seed(order)
    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        try:
            code = cli.main(line)
        except SystemExit as usage:  # argparse: what is wrong, below how it is used
            code = usage.code
            assert code in (0, 2)
            return
    said = [part for part in error.getvalue().split("\n") if part.startswith("c2f-lrp ")]
    if said and "photographs could not be attacked" in said[-1]:  # a line for each of several, and one for all
        refused = int(said[-1].split()[2])  # c2f-lrp attack: 2 of 3 ...
        assert code == 1 and len(said) == refused + 1, (line, error.getvalue())
        return
    assert code == 0 or len(said) == 1 and code == 1, (line, error.getvalue())
