"""Equations (3)-(5): what relevance starts with, and the rules by which layers with weights hand it down.

A rule is one object. It shares the relevance R_j of each of a layer's outputs among the layer's inputs in proportion
to their contributions z_ij, the denominators being z_j = sum_i z_ij:

    z+          (eq. 4, every layer but the first)   z_ij = (a_i w_ij)+, which is a_i w+_ij where a_i >= 0
    z-beta      (eq. 5, the first layer)             z_ij = a_i w_ij - l_i w+_ij - h_i w-_ij, pixels in [l_i, h_i]
    epsilon     (Bach 2015, eq. 58)                  z_ij = a_i w_ij, and z_j moves away from 0 by epsilon
    gamma       (Montavon 2019)                      z_ij = a_i w_ij + gamma (a_i w_ij)+
    alpha-beta  (Bach 2015, eq. 60)                  alpha times the share in z+, less beta times the share in z-

The paper writes no bias. bias="ignore" reads that as printed. bias="absorb" keeps the bias in the denominators (of z+
its positive part b+_j, as zennit's rule does): the share b+_j / z_j ends there. In z-beta the bias cancels. Relevance
of a unit whose denominator is zero has nowhere to go and is dropped, and so are its derivatives.

Every rule goes through a layer in two ways, which follow from the same shares z_ij / z_j:

    relevance   backwards, R_i = sum_j z_ij R_j / z_j, which makes a heatmap of one label
    totals      forwards, reach_j = sum_i z_ij reach_i / z_j: the share of a unit's relevance that arrives at the pixels

Sources: Bach et al., "On pixel-wise explanations for non-linear classifier decisions by layer-wise relevance
propagation" (PLOS ONE 2015); Montavon et al., "Explaining nonlinear classification decisions with deep Taylor
decomposition" (Pattern Recognition 2017) for z+ and z-beta; Montavon et al., "Layer-wise relevance propagation: an
overview" (2019) for gamma.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from c2f_lrp.devices import fast_layout
from c2f_lrp.lrp.affine import Affine

INITS = ("one_hot", "logit")
BIASES = ("ignore", "absorb")

HandDown = Callable[[Tensor], Tensor]  # the relevance of a layer's outputs -> of its inputs


# ------------------------------------------------------------------------------------------------------------ eq. (3)
def start(logits: Tensor, labels: Tensor, init: str) -> Tensor:
    """The relevance (N, M) at the output: 1, or the logit, of the labels (N,)."""
    one_hot = F.one_hot(labels, logits.shape[1]).to(logits)
    return one_hot if init == "one_hot" else one_hot * logits


# -------------------------------------------------------------------------------------- denominators that may be zero
def smallest(z: Tensor) -> float:
    """The size up to which a denominator counts as zero: its inverse square would overflow."""
    return torch.finfo(z.dtype).tiny ** 0.5


def denominator(z: Tensor) -> Tensor:
    """z >= 0 with infinity in place of 0: what is divided by it is dropped, and so are its derivatives."""
    return F.threshold(z, smallest(z), inf)


def nonzero(z: Tensor) -> Tensor:
    """z of either sign with infinity in place of 0: what is divided by it is dropped, and so are its derivatives."""
    return z.masked_fill(z.abs() <= smallest(z), inf)


def one_where_alive(z: Tensor) -> Tensor | None:
    """1 where a denominator z >= 0 is not zero and 0 where it is; None where it nowhere is."""
    alive = z > smallest(z)
    return None if alive.all() else alive.to(z)


# ------------------------------------------------------------------------------------------------- any rule of shares
class Share(NamedTuple):
    """Contributions z_ij = sum over the parts of x_i v_ij. Input i gets factor * z_ij / z_j of the relevance of j.

    parts    pairs of x, in the shape of the layer's inputs, and v, in that of its weights
    bias     (outputs,) or None: what the denominator z_j has besides sum_i z_ij
    factor   what this share is multiplied by
    epsilon  by how much z_j is moved away from zero
    """

    parts: list[tuple[Tensor, Tensor]]
    bias: Tensor | None = None
    factor: float = 1.0
    epsilon: float = 0.0

    def contributions(self, layer: Affine, reach: Tensor | None = None) -> Tensor:
        """sum_i z_ij, or sum_i z_ij reach_i, in the shape of the layer's outputs."""
        total = None
        for x, v in self.parts:
            part = layer.apply(x if reach is None else x * reach, v)
            total = part if total is None else total.add_(part)
        return total

    def denominators(self, layer: Affine) -> Tensor:
        """z_j in the shape of the layer's outputs, infinite where it is zero."""
        z = self.contributions(layer)
        if self.bias is not None:
            z = z + layer.per_output(self.bias)
        if self.epsilon:
            z = torch.where(z >= 0, z + self.epsilon, z - self.epsilon)
        return nonzero(z)


class Rule:
    """How a layer with weights hands relevance down. A rule of one's own writes `shares`; both ways follow."""

    def shares(self, layer: Affine, a: Tensor, absorb: bool) -> list[Share]:
        """What each input gets of each output's relevance, as a sum of shares.

        layer: w is `layer.weights().weight`, b `layer.weights().bias` or None. a: its inputs. absorb: whether the bias
        is to be kept in the denominators.
        """
        raise NotImplementedError(f"{type(self).__name__} has no shares")

    def relevance(self, layer: Affine, a: Tensor, absorb: bool) -> tuple[Tensor, HandDown]:
        """The layer's outputs y, and R like y -> R_i = sum_j z_ij R_j / z_j like a. Differentiable."""
        denominators = [share.denominators(layer) for share in self.shares(layer, a, absorb)]

        def hand_down(r: Tensor) -> Tensor:
            inputs = []
            for share, z in zip(self.shares(layer, a, absorb), denominators, strict=True):
                s = r / z if share.factor == 1 else share.factor * r / z
                back = [layer.transpose(s, v, a.shape) for _, v in share.parts]
                inputs += [x * from_outputs for (x, _), from_outputs in zip(share.parts, back, strict=True)]
            return functools.reduce(torch.add, inputs)

        return layer(a), hand_down

    def totals(self, layer: Affine, a: Tensor, reach: Tensor | None, absorb: bool) -> tuple[Tensor, Tensor | None]:
        """The layer's outputs y, and reach_j = sum_i z_ij reach_i / z_j like y. reach None: 1 everywhere."""
        out, conserved = 0.0, True
        for share in self.shares(layer, a, absorb):
            if reach is None and share.bias is None and not share.epsilon:
                # All that comes is handed on: sum_i z_ij / z_j = 1, whatever the image, or 0 where z_j is.
                with torch.no_grad():
                    alive = one_where_alive(share.contributions(layer).abs_())
            else:
                alive = share.contributions(layer, reach) / share.denominators(layer)
            conserved = conserved and alive is None
            out = out + share.factor * (1.0 if alive is None else alive)
        if conserved and out == 1:
            return layer(a), None
        y = layer(a)
        return y, out if isinstance(out, Tensor) else torch.full_like(y, out)


# ------------------------------------------------------------------------------------------------------- eq. (4), z+
@dataclass(frozen=True)
class ZPlus(Rule):
    """Eq. (4): R_i = sum_j (a_i w_ij)+ R_j / z_j, where the paper's a_i w+_ij is what (a_i w_ij)+ is for a_i >= 0.

    `shares` is the definition; the two ways are the same with as few convolutions as possible.
    """

    def shares(self, layer: Affine, a: Tensor, absorb: bool) -> list[Share]:
        weight, bias, *_ = layer.weights()
        return [Share(positive_parts(a, weight), bias.clamp(min=0) if absorb and bias is not None else None)]

    def relevance(self, layer: Affine, a: Tensor, absorb: bool) -> tuple[Tensor, HandDown]:
        halves = layer.halves(a)
        z = denominator(layer.positive(halves, absorb))

        def hand_down(r: Tensor) -> Tensor:
            shared = halves * layer.positive_transposed(r / z, halves.shape)
            return shared if layer.nonnegative else sum(layer.parted(shared))

        return layer(a), hand_down

    def totals(self, layer: Affine, a: Tensor, reach: Tensor | None, absorb: bool) -> tuple[Tensor, Tensor | None]:
        if reach is None and not (absorb and layer.weights().bias is not None):
            with torch.no_grad():
                z = layer.positive(layer.halves(a))
            return layer(a), one_where_alive(z)
        return ZPlusReach.apply(a, reach, layer, absorb)


def positive_parts(a: Tensor, weight: Tensor) -> list[tuple[Tensor, Tensor]]:
    """(a_i w_ij)+ = a+_i w+_ij + a-_i w-_ij"""
    return [(a.clamp(min=0), weight.clamp(min=0)), (a.clamp(max=0), weight.clamp(max=0))]


def negative_parts(a: Tensor, weight: Tensor) -> list[tuple[Tensor, Tensor]]:
    """(a_i w_ij)- = a+_i w-_ij + a-_i w+_ij"""
    return [(a.clamp(min=0), weight.clamp(max=0)), (a.clamp(max=0), weight.clamp(min=0))]


class ZPlusReach(Function):
    """The layer's outputs y_j, and reach_j = n_j / z_j with n_j = sum_i v_ij c_i reach_i, z_j = sum_i v_ij c_i + b+_j.

    c and v are a and w+, or [a+, -a-] and [w+, -w-] where a may be negative. The derivative of an L that depends on
    both, by hand, so that nothing but these convolutions is computed:

        dL/dn_j = dL/dreach_j / z_j              dL/dz_j = -reach_j dL/dn_j
        dL/dreach_i = c_i sum_j v_ij dL/dn_j     dL/dc_i = sum_j v_ij (dL/dz_j + reach_i dL/dn_j)
        dL/da_i = sum_j w_ij dL/dy_j + dL/dc_i dc_i/da_i

    Where every reach_i is 1 (None), n_j = z_j - b+_j takes no convolution, and dL/da_i two instead of three.
    """

    @staticmethod
    def forward(ctx, a: Tensor, reach: Tensor | None, layer: Affine, absorb: bool) -> tuple[Tensor, Tensor]:
        z = layer.positive(layer.halves(a), absorb)
        if reach is not None:
            n = layer.positive(layer.halves(a * reach))
        else:
            n = z - (layer.positive_bias() if absorb else 0.0)
        z = F.threshold_(z, smallest(z), inf)  # see `denominator`
        out = n.div_(z)
        ctx.save_for_backward(a, reach, z, out, *layer.weights())
        ctx.layer = layer
        ctx.set_materialize_grads(False)
        return layer(a), out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_y: Tensor | None, grad_out: Tensor | None) -> tuple[Tensor | None, ...]:
        a, reach, z, out, weight, _, positive, _ = ctx.saved_tensors
        layer = ctx.layer
        grad_a = grad_reach = None
        grad_y, grad_out = (None if grad is None else fast_layout(grad) for grad in (grad_y, grad_out))
        if not layer.nonnegative:
            sign = a.sign()
            first = sign.clamp(min=0)  # 1 where a_i is in the first half, else 0

        def to_inputs(grad: Tensor) -> Tensor:
            """sum_j v_ij grad_j of the half that a_i is in, like a."""
            if layer.nonnegative:
                return fast_layout(layer.transpose(grad, positive, a.shape))
            one, other = layer.parted(layer.transpose(grad, positive, a.shape))
            return fast_layout(torch.lerp(other, one, first))  # exact for 0 and 1; torch.where is slow

        if grad_out is not None:
            grad_n = grad_out / z
            if reach is None:
                grad_a = to_inputs(grad_n.addcmul_(out, grad_n, value=-1))
            else:
                from_n = to_inputs(grad_n)
                grad_a = to_inputs(grad_n.mul_(out).neg_()).addcmul_(reach, from_n)
                grad_reach = from_n.mul_(a if layer.nonnegative else a.abs())
            if not layer.nonnegative:
                grad_a = grad_a.mul_(sign)
        if grad_y is not None:
            from_y = fast_layout(layer.transpose(grad_y, weight, a.shape))
            grad_a = from_y if grad_a is None else grad_a.add_(from_y)
        return grad_a, grad_reach, None, None


# --------------------------------------------------------------------------------------------------- eq. (5), z-beta
@dataclass(frozen=True, eq=False)
class ZBeta(Rule):
    """Eq. (5) on normalised pixels a with the bounds l and h, (1, 3, H, W) each. No bias enters: it cancels.

    a w - l w+ - h w- = (a - l) w+ + (a - h) w-: without cancellation.
    """

    low: Tensor
    high: Tensor

    def shares(self, layer: Affine, a: Tensor, absorb: bool) -> list[Share]:
        weight = layer.weights().weight
        return [Share([(a - self.low, weight.clamp(min=0)), (a - self.high, weight.clamp(max=0))])]


# ---------------------------------------------------------------------------------------------------- rules to choose
@dataclass(frozen=True)
class Epsilon(Rule):
    """Bach et al. 2015, eq. (58): z_ij = a_i w_ij, and z_j + epsilon sign(z_j). epsilon absorbs relevance."""

    epsilon: float = 1e-2

    def shares(self, layer: Affine, a: Tensor, absorb: bool) -> list[Share]:
        weight, bias, *_ = layer.weights()
        return [Share([(a, weight)], bias if absorb else None, epsilon=self.epsilon)]


@dataclass(frozen=True)
class Gamma(Rule):
    """Montavon et al. 2019: z_ij = a_i w_ij + gamma (a_i w_ij)+, for inputs a_i >= 0 a_i (w_ij + gamma w+_ij)."""

    gamma: float = 0.25

    def shares(self, layer: Affine, a: Tensor, absorb: bool) -> list[Share]:
        weight, bias, *_ = layer.weights()
        bias = None if bias is None or not absorb else bias + self.gamma * bias.clamp(min=0)
        if layer.nonnegative:
            return [Share([(a, weight + self.gamma * weight.clamp(min=0))], bias)]
        return [Share([(a, weight), *((self.gamma * x, v) for x, v in positive_parts(a, weight))], bias)]


@dataclass(frozen=True)
class AlphaBeta(Rule):
    """Bach et al. 2015, eq. (60): alpha times the share in what speaks for a unit, less beta times that against it.

    alpha - beta = 1 hands on what comes.
    """

    alpha: float = 2.0
    beta: float = 1.0

    def __post_init__(self):
        if abs(self.alpha - self.beta - 1) > 1e-9:
            raise ValueError(f"alpha is {self.alpha} and beta {self.beta}; alpha - beta must be 1, as for 2 and 1")

    def shares(self, layer: Affine, a: Tensor, absorb: bool) -> list[Share]:
        weight, bias, *_ = layer.weights()
        kept = bias if absorb else None
        return [
            Share(positive_parts(a, weight), None if kept is None else kept.clamp(min=0), self.alpha),
            Share(negative_parts(a, weight), None if kept is None else kept.clamp(max=0), -self.beta),
        ]


# Every rule by its name; `LRP(network, rule=...)` takes a name or a rule. Eq. (5) always is the first layer's.
RULES: dict[str, Rule] = {"z+": ZPlus(), "epsilon": Epsilon(), "gamma": Gamma(), "alpha-beta": AlphaBeta()}


def as_rule(rule: "str | Rule") -> Rule:
    """The rule of that name, or the rule itself."""
    if isinstance(rule, Rule):
        return rule
    if rule not in RULES:
        raise ValueError(f"rule is {rule!r}; choose one of {', '.join(RULES)}, or give a c2f_lrp.lrp.Rule")
    return RULES[rule]
