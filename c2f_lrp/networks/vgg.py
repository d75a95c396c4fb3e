"""VGG-16: Simonyan and Zisserman, "Very deep convolutional networks for large-scale image recognition" (ICLR 2015),
configuration D, at any width. Batch normalisation is used while training only and folded into the other layers
afterwards, so that what is attacked and explained is the plain VGG-16 of the paper.
"""

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from c2f_lrp.classifier import Classifier

# Channels of VGG-16's convolutions as multiples of the first layer's width (64 in the paper); "M" is a max pooling.
VGG16 = (1, 1, "M", 2, 2, "M", 4, 4, 4, "M", 8, 8, 8, "M", 8, 8, 8, "M")


def vgg16(
    n_classes: int,
    *,
    width: int = 64,
    hidden: int = 4096,
    image_size: int = 224,
    dropout: float = 0.5,
    batch_norm: bool = False,
) -> Classifier:
    """VGG-16 with `width` channels in its first convolution (the paper: 64) and `hidden` units in its linear layers.

    Five poolings leave image_size/32 squared positions, 7x7 in the paper and 2x2 at 64x64.
    """
    if image_size % 32:
        raise ValueError(f"image_size is {image_size}; VGG-16's five poolings need a multiple of 32, such as 64 or 224")
    settings = dict(
        n_classes=n_classes,
        width=width,
        hidden=hidden,
        image_size=image_size,
        dropout=dropout,
        batch_norm=batch_norm,
    )
    layers: list[nn.Module] = []
    channels = 3
    for multiple in VGG16:
        if isinstance(multiple, str):  # "M"
            layers.append(nn.MaxPool2d(2))
            continue
        layers.append(nn.Conv2d(channels, channels := width * multiple, 3, padding=1))
        if batch_norm:
            layers.append(nn.BatchNorm2d(channels))
        layers.append(nn.ReLU())
    layers.append(nn.Flatten())
    for inputs in (channels * (image_size // 32) ** 2, hidden):
        layers.append(nn.Linear(inputs, hidden))
        # Here too: without it a narrow network may learn one class as "no hidden unit fires". Its images would then
        # have no gradient and no relevance, and no attack could move them.
        if batch_norm:
            layers.append(nn.BatchNorm1d(hidden))
        layers += [nn.ReLU(), nn.Dropout(dropout)]
    layers.append(nn.Linear(hidden, n_classes))
    return Classifier(nn.Sequential(*layers), settings, architecture="vgg16")


def fold_batch_norm(classifier: Classifier) -> Classifier:
    """A copy in eval mode that computes the same without batch normalisation, which its other layers absorbed."""
    folded: list[nn.Module] = []
    for layer in classifier.eval().layers:
        if isinstance(layer, nn.BatchNorm2d):
            folded[-1] = fuse_conv_bn_eval(folded[-1], layer)
        elif isinstance(layer, nn.BatchNorm1d):
            folded[-1] = fuse_linear_bn_eval(folded[-1], layer)
        else:
            folded.append(layer)
    settings = {**classifier.settings, "batch_norm": False}
    return Classifier(nn.Sequential(*folded), settings, architecture=classifier.architecture).eval()
