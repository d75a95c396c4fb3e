"""Networks of other libraries with weights from a file: what is read, and what is refused with what words."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision import models

import c2f_lrp
from c2f_lrp.networks import named

NAME = "torchvision:squeezenet1_1"


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return models.squeezenet1_1(weights=None).eval()


@pytest.mark.parametrize("how", ["state dict", "safetensors", "inside a checkpoint", "as DataParallel names them"])
def test_weights_are_read_however_they_were_stored(network, tmp_path, how):
    path, tensors = tmp_path / f"w.{'safetensors' if how == 'safetensors' else 'pth'}", network.state_dict()
    if how == "safetensors":
        save_file(tensors, path)
    elif how == "inside a checkpoint":
        torch.save({"model": tensors, "epoch": 3}, path)
    else:
        torch.save({f"module.{key}": v for key, v in tensors.items()} if how.startswith("as") else tensors, path)
    classifier = c2f_lrp.load_flat(NAME, path, mean=127, std=128, image_size=64)
    pixels = torch.rand(2, 3, 64, 64) * 255
    logits = network((pixels - 127) / 128)
    groups = classifier.hierarchy.class_indices
    expected = torch.stack([logits[:, list(group)].logsumexp(1) for group in groups], 1)
    torch.testing.assert_close(classifier.coarse(pixels), expected)
    torch.testing.assert_close(classifier.fine[1](pixels), logits[:, list(groups[1])])
    assert not any(parameter.requires_grad for parameter in classifier.parameters()) and not classifier.training
    with pytest.raises(ValueError, match="this network takes 64x64"):
        classifier.coarse(torch.rand(1, 3, 32, 32) * 255)


def test_a_whole_module_is_never_unpickled(network, tmp_path):
    torch.save(network, tmp_path / "module.pth")
    with pytest.raises(ValueError, match="module.pth cannot be read as weights .*state_dict"):
        named.named_network(NAME, tmp_path / "module.pth")


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda t: t.pop("classifier.1.bias"), "1 of its tensors are missing, such as classifier.1.bias"),
        (lambda t: t.update(head=torch.zeros(1)), "1 are not its, such as head"),
        (
            lambda t: t.update({"classifier.1.bias": torch.zeros(10)}),
            r"1 have another shape: .* is \(10,\), not \(1000,\)",
        ),
    ],
)
def test_weights_of_another_network_are_refused_by_name(network, tmp_path, change, message):
    tensors = dict(network.state_dict())
    change(tensors)
    torch.save(tensors, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=f"does not hold the weights of {NAME}: .*{message}"):
        named.named_network(NAME, tmp_path / "w.pth")


@pytest.mark.parametrize("content", [b"", b"text", [1, 2], {"a": 1}, {}])
def test_files_that_hold_no_weights_are_refused(tmp_path, content):
    path = tmp_path / "w.pth"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(ValueError, match=r"w.pth (cannot be read as weights|holds more than named tensors, or none)"):
        named.read_tensors(path)
    (tmp_path / "w.safetensors").write_bytes(b"text")
    with pytest.raises(ValueError, match="cannot be read as weights"):
        named.read_tensors(tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    "name, message",
    [
        ("resnet18", "'resnet18' is not understood; give library:model"),
        ("torchvision:", "is not understood"),
        ("keras:resnet18", "is not understood"),
        ("torchvision:resnet19", "torchvision has no 'resnet19'; it has resnet"),
        ("torchvision:fcn_resnet50", "torchvision has no 'fcn_resnet50'"),  # it labels pixels
    ],
)
def test_unknown_networks_are_refused(name, message):
    with pytest.raises(ValueError, match=message):
        named.build(name)


def test_timm_is_asked_only_where_it_is_installed(monkeypatch):
    monkeypatch.setattr(named, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="needs timm, which is not installed: python -m pip install timm"):
        named.build("timm:resnet18")


def test_a_normalisation_for_pixels_in_0_to_1_is_refused(network, tmp_path):
    torch.save(network.state_dict(), tmp_path / "w.pth")
    for mean, std in (((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), (0.5, 0.5)):
        with pytest.raises(ValueError, match="are for pixels in 0..1; give them for 0..255: 255 times as much"):
            named.named_network(NAME, tmp_path / "w.pth", mean=mean, std=std)
    assert isinstance(named.named_network(NAME, tmp_path / "w.pth", mean=0, std=1).layers, nn.Module)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no weight file .*none.pth"):
        c2f_lrp.load_flat(NAME, tmp_path / "none.pth")
