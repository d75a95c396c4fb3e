"""Equations (3)-(5) through zennit, for networks that are not one sequence of layers, such as ResNets.

Source: Anders et al., "Software for dataset-wide XAI: from local explanations to global insights with Zennit, CoRelAy,
and ViRelAy" (2021). Slower than c2f_lrp.lrp, which it agrees with where both apply. What branches join is a sum:
each branch gets relevance in proportion to what it brings (zennit's Norm rule); the paper has no such layer.
"""

import copy

import torch
from torch import Tensor, nn
from zennit.core import Composite
from zennit.layer import Sum
from zennit.rules import Norm, Pass, ZBox, ZPlus
from zennit.torchvision import ResNetCanonizer

from c2f_lrp.checks import check_labels, check_pixels
from c2f_lrp.lrp import AFFINE, AVERAGES, GROUPS, NORMS, check_choices, nonzero, start

PASSED = (nn.ReLU, nn.Dropout, nn.Identity)
# Their plain gradient is the rule: the winner takes all, a new shape, in proportion to the softmax.
NATURAL = (nn.MaxPool2d, nn.Flatten, *GROUPS)
KNOWN = (*AFFINE, *NORMS, *AVERAGES, *PASSED, *NATURAL, Sum)


class ZennitLRP:
    """LRP_G(x; c) as in `c2f_lrp.lrp.LRP`, with `classifier.layers` any module made of layers that have a rule.

    Works on a copy of the network as it is now, with batch normalisation merged into the layers before it: the network
    itself is not touched, and later changes of its weights are not seen. (zennit's own way, merging in place for the
    time of a pass, would put the weights back before a gradient of the relevance is taken, and falsify it.)

    Raises ValueError for an unknown choice or a network in training mode, TypeError for a layer without a rule.
    """

    def __init__(self, classifier: nn.Module, init: str = "one_hot", bias: str = "absorb"):
        check_choices(classifier, init, bias)
        self.classifier = classifier
        self.normalize = classifier.normalize
        self.init = init
        self.bias = bias
        self.network = copy.deepcopy(classifier.layers).requires_grad_(False)
        for module in self.network.modules():
            if isinstance(module, nn.ReLU):
                module.inplace = False  # it would overwrite what the rules look at
        check_layers(self.network)
        ResNetCanonizer().apply(self.network)  # also merges batch normalisation in networks that are no ResNets
        for name, module in self.network.named_modules():
            if isinstance(module, tuple(NORMS)):
                finish_merging(name, module)
        self.first: nn.Module | None = None

    def relevance(self, pixels: Tensor, labels: Tensor) -> Tensor:
        """Heatmaps (N, 3, H, W): the relevance of every pixel in [0, 255] for labels (N,). Differentiable."""
        return self.relevances(pixels, [labels])[0]

    def relevances(self, pixels: Tensor, labels: list[Tensor]) -> list[Tensor]:
        """One heatmap (N, 3, H, W) for each entry (N,) of `labels`, sharing the forward pass."""
        return self.propagate(pixels, lambda logits: [start(logits, entry, self.init) for entry in labels], labels)

    def difference(self, pixels: Tensor, org: Tensor, adv: Tensor) -> Tensor:
        """Total relevance of labels `org` (N,) less that of labels `adv` (N,): (N,). Differentiable.

        Relevance is linear in what it starts with, so one pass that starts with both signs gives the difference.
        """
        signed = self.propagate(
            pixels, lambda logits: [start(logits, org, self.init) - start(logits, adv, self.init)], [org, adv]
        )
        return signed[0].sum((1, 2, 3))

    def propagate(self, pixels: Tensor, starts, labels: list[Tensor]) -> list[Tensor]:
        """The relevance (N, 3, H, W) of the pixels for each start (N, M) made of the logits."""
        check_pixels(pixels)
        create_graph = torch.is_grad_enabled() and pixels.requires_grad
        x = self.normalize(pixels) if create_graph else self.normalize(pixels.detach()).requires_grad_()
        low, high = (self.normalize(torch.full_like(pixels[:1], value)).detach() for value in (0, 255))
        if self.first is None:
            self.first = first_layer(self.network, x.detach())
        zero_bias = "bias" if self.bias == "ignore" else None

        def rule(ctx: dict, name: str, module: nn.Module):
            if module is self.first:
                return ZBox(low, high, stabilizer=nonzero)
            if isinstance(module, AFFINE):
                return ZPlus(stabilizer=nonzero, zero_params=zero_bias)
            if isinstance(module, (*AVERAGES, Sum)):
                return Norm(stabilizer=nonzero)
            return Pass() if isinstance(module, (*PASSED, *NORMS)) else None

        # Leaving the context takes every hook off again, after an error too.
        with torch.enable_grad(), Composite(module_map=rule).context(self.network) as network:
            logits = network(x)
            for entry in labels:
                check_labels(entry, *logits.shape)
            heatmaps = []
            for at_output in starts(logits):
                # zennit's hooks keep what a second derivative needs only if the relevance they get requires one.
                if not at_output.requires_grad:
                    at_output.requires_grad_(create_graph)
                arrived = torch.autograd.grad(logits, x, at_output, create_graph=create_graph, retain_graph=True)
                heatmaps.append(arrived[0])
        return heatmaps


def first_layer(network: nn.Module, x: Tensor) -> nn.Module:
    """The convolution or linear layer that sees the image."""
    called: list[nn.Module] = []
    handles = [
        module.register_forward_pre_hook(lambda module, _: called.append(module))
        for module in network.modules()
        if isinstance(module, AFFINE)
    ]
    try:
        with torch.no_grad():
            network(x[:1])
    finally:
        for handle in handles:
            handle.remove()
    return called[0]


def check_layers(network: nn.Module) -> None:
    """Refuse layers without a rule: zennit would pass them by, with their plain gradient."""
    known = ", ".join(kind.__name__ for kind in KNOWN)
    for name, module in network.named_modules():
        if next(module.children(), None) is None and not isinstance(module, KNOWN):
            raise TypeError(f"layer {name} is a {type(module).__name__}, which has no rule here; known are {known}")
        if isinstance(module, tuple(NORMS)) and (module.running_mean is None or module.weight is None):
            raise TypeError(f"layer {name} ({module}) has no running statistics or no weights, which merging needs")


def finish_merging(name: str, norm: nn.Module) -> None:
    """Make a merged batch normalisation the identity: zennit 0.5.1 leaves it dividing by sqrt(1 + eps)."""
    values = (norm.running_mean, 0), (norm.running_var, 1), (norm.weight, 1), (norm.bias, 0)
    if not all(bool((tensor == value).all()) for tensor, value in values):
        raise TypeError(f"layer {name} ({norm}) follows no layer that it can be merged into")
    norm.eps = 0.0
