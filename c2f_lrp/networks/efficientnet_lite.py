"""EfficientNet-Lite0: an ImageNet network at 224x224 pixels, small enough to ship and to attack on a laptop.

The plan is EfficientNet-B0's: Tan and Le, "EfficientNet: rethinking model scaling for convolutional neural networks"
(ICML 2019, arXiv 1905.11946), Table 1. Its blocks are MobileNetV2's inverted bottlenecks: a 1x1 convolution widens, a
depthwise one mixes neighbours, another 1x1 narrows, and nothing follows that one ("linear bottleneck"), so that what a
block hands on has either sign. Lite0 is the variant for phones that TensorFlow released in March 2020
(github.com/tensorflow/tpu, models/official/efficientnet/lite). It departs from B0 in three places:

- ReLU6, min(max(x, 0), 6), instead of swish: a bounded range is what 8-bit arithmetic wants. Relevance passes it as it
  passes a ReLU.
- No squeeze-and-excitation: phones' accelerators lack it. It multiplies activations by each other, which is a product
  that no rule of the paper covers; without it the network is convolutions, ReLU6 and sums.
- Pixels are normalised by (pixel - 127) / 128 instead of by ImageNet's mean and standard deviation.

Stem and head are not scaled in the larger Lites; at Lite0's scale, 1, that changes nothing. Dropout (0.2) and dropped
blocks belong to training and are left out: in evaluation they do nothing.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn

# What the network is fed: (pixel - PIXEL_MEAN) / PIXEL_STD, pixels in 0..255, the same in all three colours.
PIXEL_MEAN = 127.0
PIXEL_STD = 128.0

# EfficientNet's Table 1, stages 2 to 8: expansion, kernel, stride of the first block, channels out, blocks.
STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
STEM, HEAD = 32, 1280  # channels

BATCH_NORM_EPS = 1e-3  # TensorFlow's; PyTorch's default is 1e-5


class Residual(nn.Module):
    """x -> x + layers(x), shapes (N, C, H, W): the blocks whose input and output have the same shape."""

    def __init__(self, layers: nn.Sequential):
        super().__init__()
        self.layers = layers

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


def efficientnet_lite0(n_classes: int = 1000, image_size: int = 224, batch_norm: bool = False) -> nn.Sequential:
    """Normalised images (N, 3, image_size, image_size) -> logits (N, n_classes).

    The modules are stem, block_1 to block_16, head, pool, flatten and classes, in this order. Weights are random.
    batch_norm=False has batch normalisation folded into the convolutions, as the shipped weights have; True is the
    network as it was trained, with 4,652,008 parameters for 1000 classes. `folded` turns the latter's weights into the
    former's.

    image_size decides the padding (`same_padding`), so images of another size may give other logits than TensorFlow's,
    and nothing here notices: wrap the network in a `Classifier` whose settings hold image_size, which refuses them.
    Raises ValueError where a number is not a positive integer.

    Source: Tan and Le (2019), Table 1, and TensorFlow's EfficientNet-Lite (2020).
    """
    for name, value in {"n_classes": n_classes, "image_size": image_size}.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} is {value!r}; give a positive integer, such as 1000 classes of 224 pixels a side")
    size = image_size
    network = convolution("stem", 3, STEM, size, kernel=3, stride=2, batch_norm=batch_norm)
    size, channels, count = halved(size), STEM, 0
    for expansion, kernel, stride, outputs, blocks in STAGES:
        for step in [stride] + [1] * (blocks - 1):
            count += 1
            network[f"block_{count}"] = bottleneck(channels, outputs, size, expansion, kernel, step, batch_norm)
            size = halved(size) if step == 2 else size
            channels = outputs
    network |= convolution("head", channels, HEAD, size, batch_norm=batch_norm)
    network |= {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "classes": nn.Linear(HEAD, n_classes)}
    return nn.Sequential(network)


def bottleneck(
    inputs: int, outputs: int, size: int, expansion: int, kernel: int, stride: int, batch_norm: bool
) -> nn.Module:
    """An inverted bottleneck (Sandler et al. 2018, arXiv 1801.04381): (N, inputs, size, size) -> (N, outputs, ...)."""
    wide = inputs * expansion
    layers = convolution("expand", inputs, wide, size, batch_norm=batch_norm) if expansion > 1 else OrderedDict()
    layers |= convolution("depthwise", wide, wide, size, kernel, stride, groups=wide, batch_norm=batch_norm)
    layers |= convolution("project", wide, outputs, size, batch_norm=batch_norm, relu6=False)
    block = nn.Sequential(layers)
    return Residual(block) if stride == 1 and inputs == outputs else block


def convolution(
    name: str,
    inputs: int,
    outputs: int,
    size: int,
    kernel: int = 1,
    stride: int = 1,
    groups: int = 1,
    *,
    batch_norm: bool,
    relu6: bool = True,
) -> OrderedDict[str, nn.Module]:
    """A convolution over size x size, called `name`, and what goes with it: padding, batch normalisation, ReLU6."""
    before, after = same_padding(size, kernel, stride)
    even = before == after  # then the convolution pads by itself
    layers = OrderedDict()
    if not even:
        layers[f"{name}_pad"] = nn.ZeroPad2d((before, after, before, after))
    padding = before if even else 0
    layers[name] = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=not batch_norm)
    if batch_norm:
        layers[f"{name}_norm"] = nn.BatchNorm2d(outputs, eps=BATCH_NORM_EPS, momentum=0.01)
    if relu6:
        layers[f"{name}_relu6"] = nn.ReLU6()
    return layers


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros that TensorFlow's padding "SAME" puts before and after `size` pixels.

    As many as make ceil(size / stride) outputs, and of an odd number the larger half after: at stride 2 and an even
    size PyTorch's symmetric padding would look at other pixels, shifted by one.
    """
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def halved(size: int) -> int:
    """Pixels a side after stride 2 with padding "SAME"."""
    return -(-size // 2)


def folded(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of `efficientnet_lite0(batch_norm=True)` as that of the network without batch normalisation.

    In evaluation, y = gamma (Wx - mean) / sqrt(var + eps) + beta is a convolution again: its weights are gamma W /
    sqrt(var + eps), its bias is beta - gamma mean / sqrt(var + eps). The type of the tensors stays.
    """
    result = {}
    for name, value in tensors.items():
        layer, _, kind = name.rpartition(".")
        norm = f"{layer}_norm"
        if layer.endswith("_norm"):
            continue
        if f"{norm}.weight" not in tensors:
            result[name] = value
            continue
        gain = tensors[f"{norm}.weight"] / torch.sqrt(tensors[f"{norm}.running_var"] + BATCH_NORM_EPS)
        result[f"{layer}.weight"] = value * gain.view(-1, 1, 1, 1)
        result[f"{layer}.bias"] = tensors[f"{norm}.bias"] - gain * tensors[f"{norm}.running_mean"]
    return result
