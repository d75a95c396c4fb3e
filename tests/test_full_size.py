"""The path of the profiles imagenet and imagenet-flat, with small networks on photographs that the tests generate."""

import dataclasses
import io
import tarfile
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from torchvision import models

import c2f_lrp
from c2f_lrp import checkpoints, cli, cluster, pretrained, training
from c2f_lrp.classifier import CoarseToFine
from c2f_lrp.datasets import imagenet
from c2f_lrp.files import sha256
from c2f_lrp.networks import load_network, save_network, vgg16
from c2f_lrp.networks.vgg import VGG16
from c2f_lrp.profiles import PROFILES, get_profile
from c2f_lrp.training import trainer

SMALL = dataclasses.replace(
    get_profile("imagenet"), width=2, hidden=8, image_size=32, coarse_epochs=2, fine_epochs=1, table_images=4
)
SIZES = dict(width=2, hidden=8, image_size=32)
FULL = get_profile("imagenet").hierarchy()


def jpeg(seed: int) -> bytes:
    generator, file = np.random.default_rng(seed), io.BytesIO()
    small = generator.integers(0, 256, (5, 6, 3), dtype=np.uint8)
    Image.fromarray(small).resize((48, 40), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
    return file.getvalue()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Ten photographs in each of two classes of every group, and a class that is none of the 393."""
    root = tmp_path_factory.mktemp("ILSVRC2012")
    for k, wnid in enumerate([wnid for ids in FULL.ids for wnid in ids[:2]] + ["n99999999"]):
        (root / "train" / wnid).mkdir(parents=True)
        for n in range(10):
            (root / "train" / wnid / f"{wnid}_{n}.JPEG").write_bytes(jpeg(100 * k + n))
    return root


@pytest.fixture
def small(monkeypatch, tmp_path):
    """Both profiles with small networks, the flat one with random weights; its folder."""
    monkeypatch.setitem(PROFILES, "imagenet", SMALL)
    monkeypatch.setitem(PROFILES, "imagenet-flat", dataclasses.replace(SMALL, name="imagenet-flat", networks="flat"))
    monkeypatch.setenv("C2F_LRP_WEIGHTS", str(tmp_path / "none"))  # away from what the user of this machine has
    torch.manual_seed(0)
    path = tmp_path / "flat" / pretrained.FLAT
    digest = save_network(vgg16(1000, **SIZES), path, torch.float32)
    row = dict(profile="imagenet-flat", network="flat", sha256=digest)
    checkpoints.write_checkpoints(path.with_name("checkpoints.csv"), "imagenet-flat", [row])
    return path.parent


def found(root, workers=0):
    return [imagenet.find(root, FULL, split, SMALL.image_size, workers=workers) for split in ("train", "validation")]


def test_streamed_photographs_are_those_that_are_read_at_once(root):
    for photographs in (*found(root), found(root, workers=2)[1]):
        split = "train" if len(photographs) > 80 else "validation"
        images = imagenet.read(imagenet.find(root, FULL, split, SMALL.image_size), split)
        assert photographs.names == images.names and len(photographs) == len(images)
        assert torch.equal(torch.cat(list(photographs.split(7))), images.pixels)
        birds = photographs[photographs.coarse == 1]
        assert torch.equal(birds.fine, images.fine[images.coarse == 1]) and set(birds.coarse.tolist()) == {1}
    assert not any("n99999999" in name for part in found(root) for name in part.names)


def test_crops_depend_on_the_epoch_and_the_row_alone(root):
    training_part = found(root)[0]
    state = torch.get_rng_state()
    crops = imagenet.Crops(training_part, training_part.fine, seed=5)
    pixels, label = crops[3]
    assert pixels.dtype == torch.uint8 and pixels.shape == (3, 32, 32) and label == training_part.fine[3]
    assert torch.equal(torch.get_rng_state(), state)  # what is drawn elsewhere does not depend on who reads
    torch.manual_seed(99)
    assert torch.equal(crops[3][0], pixels)
    other = imagenet.Crops(training_part, training_part.fine, seed=6)
    assert not torch.equal(other[3][0], pixels) and not torch.equal(crops[4][0], pixels)


class Interrupted(Exception):
    pass


def test_an_interrupted_fine_tuning_ends_with_the_same_weights(root, small, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "FINE_TUNE_BATCH", 16)
    monkeypatch.setattr(trainer, "SAVE_EVERY", 3)
    start = small / pretrained.FLAT
    arguments = dict(seed=1, command="test", pretrained=start)
    whole = training.train(SMALL, *found(root), out=tmp_path / "whole", **arguments)
    real, saves = trainer.save_state, []

    def save_then_die(path, state, *rest):
        real(path, state, *rest)
        saves.append((path.stem, state["epoch"], state["step"]))
        if len(saves) in (1, 5):  # within the coarse network's first epoch, and after a fine network's last step
            raise Interrupted

    monkeypatch.setattr(trainer, "save_state", save_then_die)
    for _ in range(2):
        with pytest.raises(Interrupted):
            training.train(SMALL, *found(root), out=tmp_path / "pieces", **arguments)
    assert saves[0] == ("coarse", 0, 3)
    pieces = training.train(SMALL, *found(root, workers=2), out=tmp_path / "pieces", **arguments)
    assert [row["sha256"] for row in pieces] == [row["sha256"] for row in whole]
    assert len(set(saves)) == len(saves)  # no step was trained twice
    # Finished networks keep no gigabytes of training state, and are not trained again.
    assert all(load_file(path) == {} for path in (tmp_path / "pieces").glob("*.training"))
    again = training.train(SMALL, *found(root), out=tmp_path / "pieces", **arguments)
    assert [row["sha256"] for row in again] == [row["sha256"] for row in whole] and len(set(saves)) == len(saves)
    # All but the last layer came from the pretrained network and moved.
    begun, ended = load_network(start).layers, load_network(tmp_path / "pieces" / "fine_dog.safetensors").layers
    assert 0 < (begun[0].weight - ended[0].weight).abs().max() < 0.05 and ended[-1].out_features == 118


def test_a_start_of_another_layout_is_refused(root, small, tmp_path):
    wide = dataclasses.replace(SMALL, width=4)
    with pytest.raises(ValueError, match="networks of .*'width': 4.* cannot start from it"):
        training.train(wide, *found(root), out=tmp_path / "out", pretrained=small / pretrained.FLAT)


def test_from_photographs_to_attacks_by_the_commands(root, small, tmp_path, capsys):
    out, drawn = tmp_path / "mine", tmp_path / "drawn"
    common = ["--profile", "imagenet", "--root", str(root)]
    assert cli.main(["data", "check", *common]) == 0
    assert "160 images" not in capsys.readouterr().out
    assert cli.main(["train", *common, "--out", str(out), "--pretrained", str(small)]) == 0
    assert "fine_electrical_device" in capsys.readouterr().out
    classifier = c2f_lrp.load_classifier("imagenet", out)
    images = c2f_lrp.load_images("imagenet", root=root, limit=3)
    assert images.pixels.shape == (3, 3, 32, 32) and classifier.predict(images.pixels)[0].shape == (3,)
    photo = next((root / "train" / FULL.ids[0][0]).iterdir())
    for attack in ("lrpc", "lrpf"):
        arguments = [str(photo), "--attack", attack, "--eps", "40", "--out", str(drawn), "--weights", str(out)]
        assert cli.main(["attack", *arguments, "--profile", "imagenet"]) == 0
        assert (drawn / f"{photo.stem}_{attack}.png").is_file()


def test_flat_weights_make_a_classifier_without_training(root, small, tmp_path):
    classifier = c2f_lrp.load_classifier("imagenet-flat", small)
    images = c2f_lrp.load_images("imagenet-flat", root=root, limit=5)
    expected = CoarseToFine.from_flat(load_network(small / pretrained.FLAT), FULL)
    assert classifier.coarse(images.pixels).shape == (5, 8)
    torch.testing.assert_close(classifier.coarse(images.pixels), expected.coarse(images.pixels))
    photo = next((root / "train" / FULL.ids[5][0]).iterdir())
    arguments = ["--profile", "imagenet-flat", "--weights", str(small), "--eps", "10", "--out", str(tmp_path)]
    assert cli.main(["attack", str(photo), *arguments]) == 0
    assert (tmp_path / f"{photo.stem}_lrpc.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--profile", "imagenet", "--root", "x"], "fetch it with: c2f-lrp data weights"),
        (["train", "--profile", "imagenet-flat", "--root", "x"], "imagenet-flat has no networks to train"),
        (["attack", "x.jpg", "--profile", "imagenet-flat"], "no flat network of imagenet-flat; run: c2f-lrp data w"),
        (["train", "--hierarchy", "x.csv"], "--hierarchy goes with the profile folder; scenes has its own classes"),
        (
            ["train", "--profile", "folder", "--root", "x"],
            "hierarchy.csv; name the classes with --hierarchy CSV, or train first: c2f-lrp train --profile folder",
        ),
    ],
)
def test_what_is_missing_is_said(small, arguments, message, capsys):
    assert cli.main(arguments) == 1
    assert message in capsys.readouterr().err


def narrow_vgg16() -> models.VGG:
    """torchvision's vgg16, a 32nd as wide: the same parameters under the same names, but smaller."""
    layers = [multiple if multiple == "M" else 2 * multiple for multiple in VGG16]
    network = models.VGG(models.vgg.make_layers(layers), init_weights=False)
    sizes = iter([(16 * 7 * 7, 8), (8, 8), (8, 1000)])
    parts = [nn.Linear(*next(sizes)) if isinstance(part, nn.Linear) else part for part in network.classifier]
    network.classifier = nn.Sequential(*parts)
    return network.eval()


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A file in the form of torchvision's, with random values, and those."""
    monkeypatch.setattr(models, "vgg16", narrow_vgg16)
    monkeypatch.setattr(pretrained, "vgg16", partial(vgg16, width=2, hidden=8))
    torch.manual_seed(0)
    network = narrow_vgg16()
    path = tmp_path / "published" / "vgg16-397923af.pth"
    path.parent.mkdir()
    torch.save(network.state_dict(), path)
    return path, network


def test_torchvisions_weights_become_ours(published, tmp_path, monkeypatch):
    (path, network), folder, digest = published, tmp_path / "flat", sha256(published[0])
    with pytest.raises(ValueError, match="has SHA-256 .* give an unaltered copy"):
        pretrained.fetch_vgg16(folder, path)
    monkeypatch.setattr(pretrained, "SHA256", digest)
    with pytest.raises(ValueError, match="has other weights, vgg16-397923af.pth, than those of"):
        pretrained.fetch_vgg16(folder, path)
    assert not folder.exists()
    monkeypatch.setattr(models.VGG16_Weights.IMAGENET1K_V1.value, "url", f"https://example.org/vgg16-{digest[:8]}.pth")
    monkeypatch.setenv("C2F_LRP_WEIGHTS", str(folder))
    assert cli.main(["data", "weights", "--file", str(path), "--out", str(folder)]) == 0
    classifier = c2f_lrp.load_classifier("imagenet-flat")
    pixels = torch.rand(1, 3, 224, 224) * 255
    normalized = models.VGG16_Weights.IMAGENET1K_V1.transforms(crop_size=224, resize_size=224)(pixels / 255)
    with torch.no_grad():
        expected = network(normalized)[:, list(FULL.class_indices[7])]
        torch.testing.assert_close(classifier.fine[7](pixels), expected, rtol=1e-4, atol=1e-5)
    (row,) = checkpoints.read_checkpoints(folder / "checkpoints.csv", "imagenet-flat")
    assert row["accuracy"] == "0.7159"  # torchvision's, from its own description of the weights


def archive(path, wnids):
    def tar_of(members: dict[str, bytes]) -> bytes:
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w") as tar:
            for name, content in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        return file.getvalue()

    inner = {f"{wnid}.tar": tar_of({f"{wnid}_{n}.JPEG": jpeg(n) for n in range(3)}) for wnid in wnids}
    path.write_bytes(tar_of(inner))


def test_only_the_hierarchys_classes_are_unpacked_and_each_once(tmp_path, monkeypatch):
    path = tmp_path / "ILSVRC2012_img_train.tar"
    archive(path, ["n01440764", "n99999999", "n01443537"])
    assert cli.main(["data", "extract", str(path), "--root", str(tmp_path / "out")]) == 0
    assert sorted(p.name for p in (tmp_path / "out" / "train").iterdir()) == ["n01440764", "n01443537"]
    assert len(list((tmp_path / "out" / "train" / "n01440764").iterdir())) == 3
    (tmp_path / "out" / "train" / "n01440764" / "n01440764_0.JPEG").unlink()
    assert imagenet.extract_classes(path, tmp_path / "out", FULL) == 0  # whole classes are left alone
    assert len(list((tmp_path / "out" / "train" / "n01440764").iterdir())) == 2


def test_archives_that_are_damaged_or_of_something_else(tmp_path):
    path = tmp_path / "archive.tar"
    archive(path, ["n01440764", "n01443537"])
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="cannot be unpacked"):
        imagenet.extract_classes(path, tmp_path / "out", FULL)
    assert not list((tmp_path / "out" / "train").glob("*.part"))
    path.write_bytes(whole)
    assert imagenet.extract_classes(path, tmp_path / "out", FULL) >= 1  # goes on
    archive(path, ["n99999999"])
    with pytest.raises(ValueError, match="holds none of the 393 classes, such as n01440764.tar"):
        imagenet.extract_classes(path, tmp_path / "out", FULL)
    with pytest.raises(FileNotFoundError, match="there is no archive"):
        imagenet.extract_classes(tmp_path / "nowhere.tar", tmp_path / "out", FULL)


def test_networks_fine_tuned_on_a_dask_worker_are_those_tuned_here(root, small, tmp_path):
    """The worker is a process that may have no children, so it reads photographs itself."""
    one = dataclasses.replace(SMALL, coarse_epochs=1)
    arguments = dict(seed=1, command="test", pretrained=small / pretrained.FLAT)
    here = training.train(one, *found(root), out=tmp_path / "here", **arguments)
    with cluster.local(1) as address:
        there = training.train(one, *found(root, 1), out=tmp_path / "there", scheduler=address, **arguments)
    assert [row["sha256"] for row in there] == [row["sha256"] for row in here]
