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
                  reach_j = sum_i z_ij reach_i / z_j and is 1 on every pixel. At the logits it is the total
                  relevance sum_i R_i^0 of every label at once, and for p = 1 eqs. (7) and (9) need nothing else.

What costs is convolutions. The second way takes three in a layer, W a, W+ a and W+ (a reach), and their transposes
for the derivative: as much as six plain forward passes for a loss and its gradient, and less while reach is 1
everywhere, as it is after the first layer. Tensors are channels-last, in which CPUs convolve faster.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn.utils.fusion import fuse_conv_bn_weights, fuse_linear_bn_weights

from c2f_lrp.checks import check_labels, check_pixels
from c2f_lrp.classifier import GroupLogSumExp, Slice

INITS = ("one_hot", "logit")
BIASES = ("ignore", "absorb")
BACKENDS = ("auto", "sequential", "zennit")

AFFINE = (nn.Conv2d, nn.Linear)
NORMS = {nn.BatchNorm2d: nn.Conv2d, nn.BatchNorm1d: nn.Linear}  # each with the layer that absorbs it
AVERAGES = (nn.AvgPool2d, nn.AdaptiveAvgPool2d)
GROUPS = (GroupLogSumExp, Slice)  # at the output of a network made of a flat one
KNOWN = (*AFFINE, *NORMS, nn.ReLU, nn.MaxPool2d, *AVERAGES, nn.Flatten, nn.Dropout, nn.Identity, *GROUPS)

Rule = Callable[[Tensor], Tensor]  # the relevance of a layer's outputs -> of its inputs


class LRP:
    """LRP_G(x; c) of a classifier G made of one sequence of layers (`classifier.layers`, `classifier.normalize`).

    init: the relevance that label c starts with at the output: "one_hot", 1 (eq. 3), or "logit", its logit, where the
    code of the paper's reference [21] starts. bias: "ignore" (eq. 4 as printed) or "absorb" (see the module). Batch
    normalisation is folded into the layer before it. The network's weights may change between calls.

    Raises ValueError for an unknown choice or a network in training mode, TypeError for a layer without a rule.
    """

    def __init__(self, classifier: nn.Module, init: str = "one_hot", bias: str = "absorb"):
        check_choices(classifier, init, bias)
        self.classifier = classifier
        self.layers = read_layers(classifier.layers)
        self.normalize = classifier.normalize
        self.init = init
        self.bias = bias

    def relevance(self, pixels: Tensor, labels: Tensor) -> Tensor:
        """Heatmaps (N, 3, H, W): the relevance of every pixel in [0, 255] for labels (N,). Differentiable.

        Normalising an image moves no relevance between pixels, so it is the same per pixel as per normalised value.
        """
        return self.relevances(pixels, [labels])[0]

    def relevances(self, pixels: Tensor, labels: list[Tensor]) -> list[Tensor]:
        """One heatmap (N, 3, H, W) for each entry (N,) of `labels`, sharing the forward pass and the denominators."""
        logits, rules = self.rules(pixels)
        for entry in labels:
            check_labels(entry, *logits.shape)
        heatmaps = [start(logits, entry, self.init) for entry in labels]
        for rule in reversed(rules):
            heatmaps = [rule(heatmap) for heatmap in heatmaps]
        return heatmaps

    def totals_by_layer(self, pixels: Tensor, labels: Tensor) -> Tensor:
        """Total relevance (L + 1, N) at the output and then at the inputs of each layer, the last being the pixels."""
        logits, rules = self.rules(pixels)
        check_labels(labels, *logits.shape)
        relevance = start(logits, labels, self.init)
        totals = [relevance.sum(1)]
        for rule in reversed(rules):
            relevance = rule(relevance)
            totals.append(relevance.flatten(1).sum(1))
        return torch.stack(totals)

    def rules(self, pixels: Tensor) -> tuple[Tensor, list[Rule]]:
        """The forward pass: logits (N, M), and for each layer how it hands relevance down."""
        a, low, high = self.inputs(pixels)
        rules: list[Rule] = []
        for layer in self.layers:
            if isinstance(layer, Affine):
                a, rule = z_beta(layer, a, low, high) if layer.first else z_plus(layer, a, self.bias == "absorb")
            elif isinstance(layer, nn.MaxPool2d):
                a, rule = winner_takes_all(layer, a)
            elif isinstance(layer, AVERAGES):
                a, rule = in_proportion(layer, a)
            elif isinstance(layer, nn.Flatten):
                rule = lambda r, shape=a.shape: r.reshape(shape)  # noqa: E731
                a, low, high = layer(a), layer(low), layer(high)
            elif isinstance(layer, GROUPS):
                a, rule = by_softmax(layer, a)
            else:  # one input to one output: relevance passes through
                a, rule = layer(a), lambda r: r
            rules.append(rule)
        return a, rules

    def totals(self, pixels: Tensor) -> Tensor:
        """Total relevance (N, M) of every label c: `relevance(pixels, c).sum((1, 2, 3))`. Differentiable once."""
        a, low, high = self.inputs(pixels)
        reach = None  # of the inputs a of the next layer, in their shape; None: 1 everywhere
        for layer in self.layers:
            if isinstance(layer, Affine) and reach is None and (layer.first or self.bias == "ignore"):
                # All that comes is handed on: sum_i z_ij 1 / z_j = 1, whatever the image, or 0 where z_j is.
                with torch.no_grad():
                    z = z_beta_sum(layer, a, low, high) if layer.first else layer.positive(a)
                a, reach = layer(a), one_where_alive(z)
            elif isinstance(layer, Affine):
                a, reach = ZPlusReach.apply(a, reach, layer, self.bias == "absorb")
            elif isinstance(layer, nn.MaxPool2d):
                a, winners = max_pool(layer, a)
                reach = None if reach is None else Take.apply(reach, winners, layer)
            elif isinstance(layer, AVERAGES):
                before, a = a, layer(a)
                reach = one_where_alive(a.abs()) if reach is None else layer(before * reach) / nonzero(a)
            elif isinstance(layer, nn.Flatten):
                a, low, high = layer(a), layer(low), layer(high)
                reach = None if reach is None else layer(reach)
            elif isinstance(layer, GROUPS):
                before, a = a, layer(a)
                reach = None if reach is None else layer.mean(before, reach)
            else:
                a = layer(a)
        # Also a reach that is constant is tied to the pixels: its gradient is 0, and not missing.
        reach = (1 if reach is None else reach) + 0 * a
        return reach if self.init == "one_hot" else reach * a

    def difference(self, pixels: Tensor, org: Tensor, adv: Tensor) -> Tensor:
        """Total relevance of labels `org` (N,) less that of labels `adv` (N,): (N,). Differentiable once."""
        totals = self.totals(pixels)
        for labels in (org, adv):
            check_labels(labels, *totals.shape)
        return (totals.gather(1, org[:, None]) - totals.gather(1, adv[:, None])).squeeze(1)

    def inputs(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the first layer sees: the normalised images (N, 3, H, W), and the bounds l and h of such an image."""
        check_pixels(pixels)
        bounds = (torch.full_like(pixels[:1], value) for value in (0, 255))
        return tuple(self.normalize(x).contiguous(memory_format=torch.channels_last) for x in (pixels, *bounds))


def choose_lrp(classifier: nn.Module, init: str = "one_hot", bias: str = "absorb", backend: str = "auto"):
    """Relevance of a classifier by `LRP` ("sequential") or by `c2f_lrp.lrp_zennit.ZennitLRP` ("zennit").

    "auto": the first, which is faster, where `classifier.layers` is one sequence of layers that have a rule there.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend is {backend!r}; choose one of {', '.join(BACKENDS)}")
    layers = [layer for _, layer in leaves(getattr(classifier, "layers", nn.Sequential()))]
    if backend == "sequential" or (backend == "auto" and all(isinstance(layer, KNOWN) for layer in layers)):
        return LRP(classifier, init, bias)
    from c2f_lrp.lrp_zennit import ZennitLRP  # here, because it needs this module

    return ZennitLRP(classifier, init, bias)


# ------------------------------------------------------------------------------------------------------------ eq. (3)
def start(logits: Tensor, labels: Tensor, init: str) -> Tensor:
    """The relevance (N, M) at the output: 1, or the logit, of the labels (N,)."""
    one_hot = F.one_hot(labels, logits.shape[1]).to(logits)
    return one_hot if init == "one_hot" else one_hot * logits


# ------------------------------------------------------------------------------------------------------- eq. (4), z+
def z_plus(layer: "Affine", a: Tensor, absorb: bool) -> tuple[Tensor, Rule]:
    """The layer's outputs, and R_i = a_i sum_j w+_ij R_j / z_j. Its inputs a are nonnegative, coming from a ReLU."""
    z = denominator(layer.positive(a, absorb))
    return layer(a), lambda r: a * layer.positive_transposed(r / z, a.shape)


class ZPlusReach(Function):
    """The layer's outputs y_j, and reach_j = n_j / z_j with n_j = sum_i w+_ij a_i reach_i.

    The derivative of an L that depends on both, by hand, so that nothing but these convolutions is computed:

        dL/dn_j = dL/dreach_j / z_j              dL/dz_j = -reach_j dL/dn_j
        dL/dreach_i = a_i sum_j w+_ij dL/dn_j    dL/da_i = sum_j w_ij dL/dy_j + w+_ij (dL/dz_j + reach_i dL/dn_j)

    Where every reach_i is 1 (None), n_j = z_j - b+_j takes no convolution, and dL/da_i two instead of three.
    """

    @staticmethod
    def forward(ctx, a: Tensor, reach: Tensor | None, layer: "Affine", absorb: bool) -> tuple[Tensor, Tensor]:
        z = layer.positive(a, absorb)
        n = layer.positive(a * reach) if reach is not None else z - layer.absorbed(absorb)
        z = F.threshold_(z, smallest(z), inf)  # see `denominator`
        out = n.div_(z)
        ctx.save_for_backward(a, reach, z, out, *layer.weights())
        ctx.layer = layer
        ctx.set_materialize_grads(False)
        return layer(a), out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_y: Tensor | None, grad_out: Tensor | None) -> tuple[Tensor | None, ...]:
        a, reach, z, out, *weights = ctx.saved_tensors
        weight, _, positive, _ = weights
        grad_a = grad_reach = None
        if grad_out is not None:
            grad_n = grad_out / z
            if reach is None:
                grad_n_and_z = grad_n.addcmul_(out, grad_n, value=-1)
                grad_a = ctx.layer.transpose(grad_n_and_z, positive, a.shape)
            else:
                from_n = ctx.layer.transpose(grad_n, positive, a.shape)
                grad_z = grad_n.mul_(out).neg_()
                grad_a = ctx.layer.transpose(grad_z, positive, a.shape).addcmul_(reach, from_n)
                grad_reach = from_n.mul_(a)
        if grad_y is not None:
            from_y = ctx.layer.transpose(grad_y, weight, a.shape)
            grad_a = from_y if grad_a is None else grad_a.add_(from_y)
        return grad_a, grad_reach, None, None


# -------------------------------------------------------------------------------------------------- eq. (5), z-beta
def z_beta(layer: "Affine", a: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Rule]:
    """The layer's outputs, and eq. (5) on normalised pixels a and bounds l, h. No bias enters: it cancels."""
    positive, negative = layer.weights().positive, layer.weights().weight.clamp(max=0)
    z = denominator(z_beta_sum(layer, a, low, high))

    def rule(r: Tensor) -> Tensor:
        s = r / z
        from_low, from_high = (layer.transpose(s, weight, a.shape) for weight in (positive, negative))
        return (a - low) * from_low + (a - high) * from_high

    return layer(a), rule


def z_beta_sum(layer: "Affine", a: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """sum_i a_i w_ij - l_i w+_ij - h_i w-_ij = sum_i (a_i - l_i) w+_ij + (a_i - h_i) w-_ij: no cancellation."""
    return layer.positive(a - low).add_(layer.apply(a - high, layer.weights().weight.clamp(max=0)))


# ---------------------------------------------------------------------------------------------------------- poolings
def max_pool(layer: nn.MaxPool2d, a: Tensor) -> tuple[Tensor, Tensor]:
    """The winners' values and their places h W + w."""
    return F.max_pool2d(
        a, layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.ceil_mode, return_indices=True
    )


def winner_takes_all(layer: nn.MaxPool2d, a: Tensor) -> tuple[Tensor, Rule]:
    out, winners = max_pool(layer, a)
    return out, lambda r: Put.apply(r, winners, layer, a.shape)


class Take(Function):
    """What the winners hold: (N, C, H, W) -> one value for each window. The transpose of `Put`."""

    @staticmethod
    def forward(ctx, values: Tensor, winners: Tensor, layer: nn.MaxPool2d) -> Tensor:
        ctx.save_for_backward(winners)
        ctx.layer, ctx.shape = layer, values.shape
        # Channels last, so that both are views.
        flat, places = (x.permute(0, 2, 3, 1).flatten(1, 2) for x in (values, winners))
        return flat.gather(1, places).unflatten(1, winners.shape[2:]).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        return Put.apply(grad, *ctx.saved_tensors, ctx.layer, ctx.shape), None, None


class Put(Function):
    """One value for each window -> to the winners, added up where one wins twice, (N, C, H, W)."""

    @staticmethod
    def forward(ctx, values: Tensor, winners: Tensor, layer: nn.MaxPool2d, shape: torch.Size) -> Tensor:
        ctx.save_for_backward(winners)
        ctx.layer = layer
        like = torch.empty(shape, dtype=values.dtype, device=values.device, memory_format=torch.channels_last)
        geometry = [x if isinstance(x, tuple) else (x, x) for x in (layer.kernel_size, layer.stride, layer.padding)]
        dilation = layer.dilation if isinstance(layer.dilation, tuple) else (layer.dilation, layer.dilation)
        return torch.ops.aten.max_pool2d_with_indices_backward(
            values, like, *geometry, dilation, layer.ceil_mode, winners
        )

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        return Take.apply(grad, *ctx.saved_tensors, ctx.layer), None, None, None


def in_proportion(layer: nn.Module, a: Tensor) -> tuple[Tensor, Rule]:
    """An average pooling: R_i = a_i sum_j m_ij R_j / out_j, m_ij being what it multiplies a_i by."""
    out = layer(a)
    # The average is linear: its transpose is its vector-Jacobian product, differentiable in what it is applied to.
    transposed = torch.func.vjp(layer, torch.zeros_like(a))[1]
    return out, lambda r: a * transposed(r / nonzero(out))[0]


# ----------------------------------------------------------------------------------------------------- flat networks
def by_softmax(layer: GroupLogSumExp | Slice, a: Tensor) -> tuple[Tensor, Rule]:
    """A group's relevance goes to its members in proportion to their softmax within it (Kauffmann et al., "From
    clustering to cluster explanations via neural networks", 2022): a max pooling made soft. That is the derivative.
    """
    out, transposed = torch.func.vjp(layer, a)
    return out, lambda r: transposed(r)[0]


# -------------------------------------------------------------------------------------- denominators that may be zero
def smallest(z: Tensor) -> float:
    """The size up to which a denominator counts as zero: its inverse square would overflow."""
    return torch.finfo(z.dtype).tiny ** 0.5


def denominator(z: Tensor) -> Tensor:
    """z >= 0 with infinity in place of 0: what is divided by it is dropped, and so are its derivatives."""
    return F.threshold(z, smallest(z), inf)


def nonzero(z: Tensor) -> Tensor:
    """The same for z of either sign."""
    return z.masked_fill(z.abs() <= smallest(z), inf)


def one_where_alive(z: Tensor) -> Tensor | None:
    """1 where a denominator z >= 0 is not zero and 0 where it is; None where it nowhere is."""
    alive = z > smallest(z)
    return None if alive.all() else alive.to(z)


# ----------------------------------------------------------------------------------------------- reading the network
class Weights(NamedTuple):
    """w_ij, b_j, w+_ij and b+_j of a layer; no bias: None."""

    weight: Tensor
    bias: Tensor | None
    positive: Tensor
    positive_bias: Tensor | None


@dataclass
class Affine:
    """A convolution or linear layer, with the batch normalisation behind it folded in."""

    layer: nn.Conv2d | nn.Linear
    first: bool
    norm: nn.BatchNorm2d | nn.BatchNorm1d | None = None
    known: Weights | None = None
    known_at: tuple = ()

    def weights(self) -> Weights:
        """Computed once, and again after a change of the network's weights."""
        layer, norm = self.layer, self.norm
        sources = [*layer.parameters(), *(() if norm is None else (*norm.parameters(), *norm.buffers()))]
        at = tuple((source.data_ptr(), source._version, source.dtype) for source in sources)
        if at != self.known_at:
            with torch.no_grad():
                weight, bias = layer.weight.detach(), None if layer.bias is None else layer.bias.detach()
                if norm is not None:
                    fuse = fuse_conv_bn_weights if isinstance(layer, nn.Conv2d) else fuse_linear_bn_weights
                    mean, var = norm.running_mean, norm.running_var
                    scale = torch.ones_like(var) if norm.weight is None else norm.weight
                    shift = torch.zeros_like(var) if norm.bias is None else norm.bias
                    weight, bias = (value.detach() for value in fuse(weight, bias, mean, var, norm.eps, scale, shift))
                if isinstance(layer, nn.Conv2d):
                    weight = weight.contiguous(memory_format=torch.channels_last)  # or every call would copy it so
                self.known = Weights(weight, bias, weight.clamp(min=0), None if bias is None else bias.clamp(min=0))
            self.known_at = at
        return self.known

    def __call__(self, a: Tensor) -> Tensor:
        """sum_i a_i w_ij + b_j"""
        weights = self.weights()
        return self.apply(a, weights.weight, weights.bias)

    def positive(self, a: Tensor, absorb: bool = False) -> Tensor:
        """sum_i a_i w+_ij, and + b+_j if the bias absorbs."""
        weights = self.weights()
        return self.apply(a, weights.positive, weights.positive_bias if absorb else None)

    def positive_transposed(self, s: Tensor, shape: torch.Size) -> Tensor:
        """sum_j w+_ij s_j, in the shape of the layer's inputs."""
        return self.transpose(s, self.weights().positive, shape)

    def absorbed(self, absorb: bool) -> Tensor | float:
        """b+_j, in a shape that fits the layer's outputs."""
        bias = self.weights().positive_bias
        if not absorb or bias is None:
            return 0.0
        return bias if isinstance(self.layer, nn.Linear) else bias.view(-1, 1, 1)

    def apply(self, a: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if isinstance(self.layer, nn.Linear):
            return F.linear(a, weight, bias)
        return self.layer._conv_forward(a, weight, bias)

    def transpose(self, s: Tensor, weight: Tensor, shape: torch.Size) -> Tensor:
        """The transpose of `apply`: from the layer's outputs back to the shape of its inputs."""
        if isinstance(self.layer, nn.Linear):
            return s @ weight
        conv = self.layer
        # Rows that a stride leaves over at the far border, which the transposed convolution must put back.
        rest = [
            (size + 2 * pad - dil * (kernel - 1) - 1) % stride
            for size, pad, dil, kernel, stride in zip(
                shape[2:], conv.padding, conv.dilation, conv.kernel_size, conv.stride, strict=True
            )
        ]
        return F.conv_transpose2d(s, weight, None, conv.stride, conv.padding, rest, conv.groups, conv.dilation)


def read_layers(layers: nn.Module) -> list[Affine | nn.Module]:
    """A sequence of layers, sequences inside it unpacked, for propagating relevance.

    Refuses layers without a rule, and a linear layer that z+ (eq. 4) could see negative inputs of.
    """
    known = ", ".join(kind.__name__ for kind in KNOWN)
    read: list[Affine | nn.Module] = []
    nonnegative, first = False, True
    for name, layer in leaves(layers):
        if not isinstance(layer, KNOWN):
            raise TypeError(f"layer {name} is a {type(layer).__name__}, which has no rule here; known are {known}")
        if isinstance(layer, AFFINE):
            if not (first or nonnegative):
                raise TypeError(f"layer {name} ({layer}) sees no ReLU since the last one; eq. (4) needs inputs a >= 0")
            if isinstance(layer, nn.Conv2d) and (layer.padding_mode != "zeros" or isinstance(layer.padding, str)):
                raise TypeError(f"layer {name} ({layer}) pads in a way without a rule; give zero padding as a number")
            read.append(Affine(layer, first))
            nonnegative, first = False, False
            continue
        if isinstance(layer, tuple(NORMS)):
            before = read[-1] if read else None
            if not isinstance(before, Affine) or before.norm or not isinstance(before.layer, NORMS[type(layer)]):
                raise TypeError(f"layer {name} ({layer}) follows no layer that it can be folded into")
            if layer.running_mean is None:
                raise TypeError(f"layer {name} ({layer}) keeps no running statistics, which folding needs")
            before.norm = layer
            continue
        if isinstance(layer, (nn.MaxPool2d, *AVERAGES)) and first:
            raise TypeError(f"layer {name} ({layer}) pools pixels; eq. (5) is for a first layer with weights")
        nonnegative = nonnegative or isinstance(layer, nn.ReLU)
        read.append(layer)
    return read


def leaves(layers: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Names and layers of a sequence in order, sequences inside it unpacked."""
    if isinstance(layers, nn.Sequential):
        for key, layer in enumerate(layers):
            yield from leaves(layer, f"{name}.{key}".lstrip("."))
    else:
        yield name, layers


def check_choices(classifier: nn.Module, init: str, bias: str) -> None:
    """Refuse what no propagation of relevance can start from."""
    if init not in INITS:
        raise ValueError(f"init is {init!r}; choose one of {', '.join(INITS)}")
    if bias not in BIASES:
        raise ValueError(f"bias is {bias!r}; choose one of {', '.join(BIASES)}")
    if not hasattr(classifier, "layers"):
        raise TypeError(
            f"{type(classifier).__name__} has no sequence of layers to propagate relevance through; LRP takes a "
            "c2f_lrp.classifier.Classifier (the fine network of a coarse class with one fine class has none)"
        )
    if any(module.training for module in classifier.modules()):
        raise ValueError("the classifier is in training mode, where dropout is random; call .eval() first")
