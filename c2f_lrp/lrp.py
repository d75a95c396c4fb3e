"""Equations (3)-(5): Layer-wise Relevance Propagation, differentiable with respect to the pixels.

Sources: Bach et al., "On pixel-wise explanations ..." (PLOS ONE 2015); Montavon et al., "Explaining nonlinear
classification decisions with deep Taylor decomposition" (Pattern Recognition 2017) for the z+ and z-beta rules.

A layer shares the relevance R_j of each of its outputs among its inputs in proportion to their contributions
z_ij, the denominators being z_j = sum_i z_ij:

    z+     (eq. 4, every layer but the first)   z_ij = a_i w+_ij
    z-beta (eq. 5, the first layer)             z_ij = a_i w_ij - l_i w+_ij - h_i w-_ij,  pixels bounded by l, h

A max pooling passes relevance to the input that won, an average pooling in proportion to the inputs. The paper
writes no bias. bias="ignore" reads that as printed: every layer hands on all it gets. bias="absorb" keeps the
positive part b+_j in the z+ denominators, as zennit's rule does: the share b+_j / z_j ends in the bias. (In z-beta
the bias cancels, in zennit too.) Relevance of a unit whose denominator is zero has nowhere to go and is dropped.

Two ways through the same equations:

    relevance()   backwards, layer by layer, eqs. (3)-(5) to the letter: the heatmap of one label
    totals()      forwards: `reach`, the share of a unit's relevance that arrives at the pixels, obeys
                  reach_j = sum_i z_ij reach_i / z_j and starts at 1 on every pixel. At the logits it is the total
                  relevance sum_i R_i^0 of every label at once, and for p = 1 eqs. (7) and (9) need nothing else.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

INITS = ("one_hot", "logit")
BIASES = ("ignore", "absorb")
LINEAR = (nn.Conv2d, nn.Linear)
POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)
KNOWN = (*LINEAR, nn.ReLU, *POOLS, nn.Flatten, nn.Dropout, nn.Identity)


class LRP:
    """LRP_G(x; c) of a classifier G made of one sequence of layers (`classifier.layers`, `classifier.normalize`).

    init: the relevance that label c starts with at the output: "one_hot", 1 (eq. 3), or "logit", its logit, where the
    code of the paper's reference [21] starts. bias: "ignore" (eq. 4 as printed) or "absorb" (see the module).

    Raises ValueError for an unknown choice or a network in training mode, TypeError for a layer without a rule.
    """

    def __init__(self, classifier: nn.Module, init: str = "one_hot", bias: str = "absorb"):
        if init not in INITS:
            raise ValueError(f"init is {init!r}; choose one of {', '.join(INITS)}")
        if bias not in BIASES:
            raise ValueError(f"bias is {bias!r}; choose one of {', '.join(BIASES)}")
        if not hasattr(classifier, "layers"):
            raise TypeError(
                f"{type(classifier).__name__} has no sequence of layers to propagate relevance through; LRP takes a "
                "c2f_lrp.classifier.Classifier (the fine network of a coarse class with one fine class has none)"
            )
        check_layers(classifier.layers)
        if any(module.training for module in classifier.modules()):
            raise ValueError("the classifier is in training mode, where dropout is random; call .eval() first")
        self.classifier = classifier
        self.init = init
        self.bias = bias

    def relevance(self, pixels: Tensor, labels: Tensor) -> Tensor:
        """Heatmaps (N, 3, H, W): the relevance of every pixel in [0, 255] for labels (N,). Differentiable.

        Normalising an image moves no relevance between pixels, so it is the same per pixel as per normalised value.
        """
        return self.relevances(pixels, [labels])[0]

    def relevances(self, pixels: Tensor, labels: list[Tensor]) -> list[Tensor]:
        """One heatmap (N, 3, H, W) for each entry (N,) of `labels`, sharing the forward pass and the denominators."""
        logits, steps = self.forward(pixels)
        for entry in labels:
            check_labels(entry, *logits.shape)
        heatmaps = [self.start(logits, entry) for entry in labels]
        for step in reversed(steps):
            heatmaps = [step.relevance(heatmap) for heatmap in heatmaps]
        return heatmaps

    def totals(self, pixels: Tensor) -> Tensor:
        """Total relevance (N, M) of every label: `relevance(pixels, c).sum((1, 2, 3))` in column c. Differentiable."""
        logits, steps = self.forward(pixels)
        reach = torch.ones_like(pixels)
        for step in steps:
            reach = step.reach(reach)
        return reach if self.init == "one_hot" else reach * logits

    def start(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Eq. (3): the relevance (N, M) at the output."""
        one_hot = F.one_hot(labels, logits.shape[1]).to(logits)
        return one_hot if self.init == "one_hot" else one_hot * logits

    def forward(self, pixels: Tensor) -> tuple[Tensor, list["Step"]]:
        """Logits (N, M), and for each layer what propagating relevance through it needs."""
        check_pixels(pixels)
        normalize = self.classifier.normalize
        a, low, high = (normalize(x) for x in (pixels, torch.zeros_like(pixels), torch.full_like(pixels, 255)))
        steps: list[Step] = []
        first = True
        for layer in self.classifier.layers:
            if isinstance(layer, LINEAR):
                a, step = z_beta(layer, a, low, high) if first else self.z_plus(layer, a)
                first = False
            elif isinstance(layer, POOLS):
                a, step = pool(layer, a)
            elif isinstance(layer, nn.Flatten):
                a, step = flatten(layer, a)
                if first:  # the pixels' bounds keep the pixels' shape
                    low, high = layer(low), layer(high)
            else:  # ReLU, dropout in eval mode: one input to one output, relevance passes through
                a, step = layer(a), None
            if step is not None:
                steps.append(step)
        return a, steps

    def z_plus(self, layer: nn.Module, a: Tensor) -> tuple[Tensor, "Step"]:
        """Eq. (4). a: what enters the layer, nonnegative (it comes out of a ReLU or a pooling of one)."""
        positive = layer.weight.clamp(min=0)
        absorbed = layer.bias.clamp(min=0) if self.bias == "absorb" and layer.bias is not None else None
        z = apply(layer, a, positive, absorbed)

        def relevance(r: Tensor) -> Tensor:
            return a * transposed(layer, divide(r, z), positive, a)

        def reach(u: Tensor) -> Tensor:
            return divide(apply(layer, a * u, positive), z)

        return layer(a), Step(relevance, reach)


def z_beta(layer: nn.Module, a: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, "Step"]:
    """Eq. (5), on normalised pixels a and the normalised bounds l and h of 0 and 255. No bias enters: it cancels."""
    positive, negative = layer.weight.clamp(min=0), layer.weight.clamp(max=0)
    # a w - l w+ - h w- = (a - l) w+ + (a - h) w-: two convolutions in place of three, and no cancellation.
    z = apply(layer, a - low, positive) + apply(layer, a - high, negative)

    def relevance(r: Tensor) -> Tensor:
        s = divide(r, z)
        return (a - low) * transposed(layer, s, positive, a) + (a - high) * transposed(layer, s, negative, a)

    def reach(u: Tensor) -> Tensor:
        # u is 1 on every pixel, so the numerator is z again: all that arrives here reaches the pixels.
        return alive(z).to(z)

    return layer(a), Step(relevance, reach)


@dataclass(frozen=True)
class Step:
    """One layer at one input: relevance of its outputs -> of its inputs, and reach of its inputs -> of its outputs."""

    relevance: Callable[[Tensor], Tensor]
    reach: Callable[[Tensor], Tensor]


def pool(layer: nn.Module, a: Tensor) -> tuple[Tensor, Step]:
    """Max pooling: the winner takes all. Average pooling: in proportion to the inputs."""
    if isinstance(layer, nn.MaxPool2d):
        out, winners = F.max_pool2d(
            a, layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.ceil_mode, return_indices=True
        )
        flat = winners.flatten(2)

        def relevance(r: Tensor) -> Tensor:
            empty = torch.zeros_like(a).flatten(2)
            return empty.scatter_add(2, flat, r.flatten(2)).view_as(a)

        def reach(u: Tensor) -> Tensor:
            return u.flatten(2).gather(2, flat).view_as(out)

        return out, Step(relevance, reach)

    out = layer(a)

    def relevance(r: Tensor) -> Tensor:
        s = divide(r, out)
        # The average is linear: its transpose is its vector-Jacobian product, differentiable in s.
        return a * torch.func.vjp(layer, torch.zeros_like(a))[1](s)[0]

    return out, Step(relevance, lambda u: divide(layer(a * u), out))


def flatten(layer: nn.Flatten, a: Tensor) -> tuple[Tensor, Step]:
    out = layer(a)
    return out, Step(lambda r: r.view_as(a), lambda u: u.reshape(out.shape))


def apply(layer: nn.Module, a: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The layer with another weight and bias."""
    if isinstance(layer, nn.Linear):
        return F.linear(a, weight, bias)
    return layer._conv_forward(a, weight, bias)


def transposed(layer: nn.Module, s: Tensor, weight: Tensor, a: Tensor) -> Tensor:
    """The transpose of `apply`: from the layer's outputs back to the shape of its inputs `a`."""
    if isinstance(layer, nn.Linear):
        return s @ weight
    # Output rows that a stride leaves over at the far border, which the transposed convolution must put back.
    rest = [
        (size + 2 * pad - dil * (kernel - 1) - 1) % stride
        for size, pad, dil, kernel, stride in zip(
            a.shape[2:], layer.padding, layer.dilation, layer.kernel_size, layer.stride, strict=True
        )
    ]
    return F.conv_transpose2d(
        s, weight, None, layer.stride, layer.padding, rest, layer.groups, layer.dilation
    )


def divide(numerator: Tensor, denominator: Tensor) -> Tensor:
    """numerator / denominator, and 0 where the denominator is 0: relevance with nowhere to go."""
    some = alive(denominator)
    return torch.where(some, numerator / torch.where(some, denominator, 1), 0)


def alive(denominator: Tensor) -> Tensor:
    """Where a denominator is not 0. What is so small that its inverse square would overflow counts as 0."""
    return denominator.abs() > torch.finfo(denominator.dtype).tiny ** 0.5


def check_layers(layers: nn.Sequential) -> None:
    """Refuse layers without a rule, and a linear layer that z+ (eq. 4) could see negative inputs of."""
    known = ", ".join(kind.__name__ for kind in KNOWN)
    nonnegative, first = False, True
    for name, layer in enumerate(layers):
        if not isinstance(layer, KNOWN):
            raise TypeError(f"layer {name} is a {type(layer).__name__}, which has no rule here; known are {known}")
        if isinstance(layer, LINEAR):
            if not (first or nonnegative):
                raise TypeError(f"layer {name} ({layer}) sees no ReLU since the last one; eq. (4) needs inputs a >= 0")
            if isinstance(layer, nn.Conv2d) and (layer.padding_mode != "zeros" or isinstance(layer.padding, str)):
                raise TypeError(f"layer {name} ({layer}) pads in a way without a rule; give zero padding as a number")
            nonnegative, first = False, False
        if isinstance(layer, POOLS) and first:
            raise TypeError(f"layer {name} ({layer}) pools pixels; eq. (5) is for a first layer with weights")
        nonnegative = nonnegative or isinstance(layer, nn.ReLU)


def check_pixels(pixels: Tensor) -> None:
    """Refuse what is not a batch of images (N, C, H, W) with values in [0, 255]."""
    if pixels.ndim != 4 or pixels.shape[1] != 3:
        raise ValueError(f"pixels have shape {tuple(pixels.shape)}; give a batch (N, 3, H, W)")
    if not pixels.is_floating_point():
        raise ValueError(f"pixels are {pixels.dtype}; give floating-point pixels in [0, 255]")
    if len(pixels) and not (pixels.min() >= 0 and pixels.max() <= 255):
        low, high = pixels.min().item(), pixels.max().item()
        raise ValueError(f"pixels lie in [{low:g}, {high:g}]; they must be finite and in [0, 255]")


def check_labels(labels: Tensor, n_images: int, n_classes: int) -> None:
    """Refuse labels that are not one class index in 0..M-1 for each image."""
    if labels.shape != (n_images,) or labels.dtype != torch.int64:
        raise ValueError(f"labels are {labels.dtype} of shape {tuple(labels.shape)}; give int64 of shape ({n_images},)")
    if n_images and not (labels.min() >= 0 and labels.max() < n_classes):
        raise ValueError(
            f"labels lie in {labels.min().item()}..{labels.max().item()}; the network has classes 0..{n_classes - 1}"
        )
