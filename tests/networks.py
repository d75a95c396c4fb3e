"""Builders of tiny networks in float64 with random weights: small enough for the slow twin, rich enough to be wrong."""

import torch
from torch import nn

from c2f_lrp.classifier import Classifier, CoarseToFine
from c2f_lrp.datasets import Images
from c2f_lrp.hierarchy import Hierarchy

SIZE = 6  # images are (3, 6, 6)


class Graph(nn.Module):
    """A network as a list of nodes: a module, or "sum", "cat" (channels) or "mean" (over space), and what it looks at.

    Value 0 is the image, value k + 1 what node k makes; the last is the output.
    """

    def __init__(self, nodes: list[tuple[nn.Module | str, tuple[int, ...]]]):
        super().__init__()
        self.nodes = nodes
        self.all = nn.ModuleList(layer for layer, _ in nodes if isinstance(layer, nn.Module))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        values = [x]
        for layer, inputs in self.nodes:
            given = [values[i] for i in inputs]
            if layer == "sum":
                values.append(given[0] + given[1])
            elif layer == "cat":
                values.append(torch.cat(given, 1))
            elif layer == "mean":
                values.append(given[0].mean((2, 3)))
            else:
                values.append(layer(*given))
        return values[-1]


def random_classifier(*layers: nn.Module, seed: int) -> Classifier:
    """A float64 classifier in eval mode whose weights keep the size of activations from layer to layer.

    layers: of a sequence, or one `Graph`. Running statistics of batch normalisation are random as well.
    """
    generator = torch.Generator().manual_seed(seed)
    network = layers[0] if isinstance(layers[0], Graph) else nn.Sequential(*layers)
    classifier = Classifier(network).double().eval()
    with torch.no_grad():
        for module in classifier.modules():
            if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
                module.running_mean.copy_(0.3 * torch.randn(module.num_features, generator=generator))
                module.running_var.copy_(0.5 + torch.rand(module.num_features, generator=generator))
        for parameter in classifier.parameters():
            scale = 0.3 if parameter.ndim == 1 else (2 / parameter[0].numel()) ** 0.5
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return classifier


def random_pixels(n: int, height: int, width: int, seed: int) -> torch.Tensor:
    """Images (n, 3, height, width) with values all over [0, 255], float64."""
    generator = torch.Generator().manual_seed(seed)
    return 255 * torch.rand(n, 3, height, width, generator=generator, dtype=torch.float64)


def convolutional(n_labels: int, seed: int) -> Classifier:
    """Two convolutions, a pooling of each kind, two linear layers; labels spread evenly over random images."""
    classifier = random_classifier(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3, padding=1),
        nn.ReLU(),
        nn.AvgPool2d(2, stride=1),
        nn.Flatten(),
        nn.Linear(24, 8),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(8, n_labels),
        seed=seed,
    )
    with torch.no_grad():
        logits = classifier(random_pixels(64, SIZE, SIZE, seed))
        last = classifier.layers[-1]
        spread = logits.std(0)
        last.weight /= spread[:, None]
        last.bias.copy_((last.bias - logits.mean(0)) / spread)
    return classifier


def hierarchy_of(sizes: tuple[int, ...]) -> Hierarchy:
    coarse = tuple(f"class{i}" for i in range(len(sizes)))
    fine = tuple(tuple(f"kind{j}" for j in range(size)) for size in sizes)
    ids = tuple(tuple(f"{c}/{f}" for f in kinds) for c, kinds in zip(coarse, fine, strict=True))
    return Hierarchy(coarse, fine, ids)


def sixteen_images(clf: CoarseToFine) -> Images:
    """Random images labelled by the classifier, but for the first's coarse and the second's fine label."""
    pixels = random_pixels(64, SIZE, SIZE, seed=5)
    pixels = pixels[clf.predict(pixels)[0].argsort()[-40:].flip(0)[: 16 * 2 : 2]]
    coarse, fine = clf.predict(pixels)
    first, second = (coarse == 1).nonzero().flatten()[:2].tolist()
    order = [first, second] + [row for row in range(16) if row not in (first, second)]
    pixels, coarse, fine = pixels[order], coarse[order], fine[order]
    coarse[0], fine[0] = 0, 0
    fine[1] = (fine[1] + 1) % clf.hierarchy.n_fine[1]
    return Images(pixels, coarse, fine, None, None, None, tuple(f"image {i}" for i in range(16)))
