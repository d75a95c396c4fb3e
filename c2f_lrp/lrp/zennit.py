"""Relevance by zennit's rules through the same graph: a peer to compare with, for z+ only.

Source: Anders et al., "Software for dataset-wide XAI: from local explanations to global insights with Zennit, CoRelAy,
and ViRelAy" (2021). Slower than `c2f_lrp.lrp.LRP`, which it agrees with but for one rule: sums of branches, and
averages of values of either sign, are shared by zennit's Norm in proportion to the signed terms, a_k / (a_1 + a_2).
Both hand on what comes; where terms of opposite signs nearly cancel, zennit's shares are huge and of either sign, ours
stay between 0 and 1. For terms that are nonnegative the two are the same.
"""

import torch
from torch import Tensor, nn
from zennit.core import Composite
from zennit.layer import Sum as ZennitSum
from zennit.rules import Norm, Pass, ZBox, ZPlus

from c2f_lrp.checks import check_labels
from c2f_lrp.lrp.affine import Affine, Conv, Linear
from c2f_lrp.lrp.engine import check_choices, program_of
from c2f_lrp.lrp.graph import OVERWRITING, Program
from c2f_lrp.lrp.operations import Average, Sum, Through
from c2f_lrp.lrp.rules import nonzero, start

NOT_IN_PLACE = {function: plain for plain, function in OVERWRITING.items()}


class ZennitLRP:
    """LRP_G(x; c) as in `c2f_lrp.lrp.LRP`, by zennit's hooks on modules made of the network's graph.

    Works on a copy of the network as it is when the first images come, with batch normalisation folded: the network
    itself is not touched, and later changes of its weights are not seen.

    Raises ValueError for an unknown choice or a network in training mode, TypeError for what has no rule.
    """

    def __init__(self, classifier: nn.Module, init: str = "one_hot", bias: str = "absorb"):
        check_choices(classifier, init, bias)
        self.classifier = classifier
        self.init = init
        self.bias = bias
        self.networks: dict[tuple[int, ...], Network] = {}

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
        program, shape = program_of(self.classifier, pixels), tuple(pixels.shape[1:])
        if torch.is_inference_mode_enabled():
            raise ValueError("zennit's rules work by gradients, which torch.inference_mode forbids; use torch.no_grad")
        if shape not in self.networks:
            self.networks[shape] = Network(program)
        create_graph = torch.is_grad_enabled() and pixels.requires_grad
        normalize = self.classifier.normalize
        x = normalize(pixels) if create_graph else normalize(pixels.detach()).requires_grad_()
        bounds = [normalize(torch.full_like(pixels[:1], value)).detach() for value in (0, 255)]

        # Leaving the context takes every hook off again, after an error too.
        with torch.enable_grad(), self.composite(bounds).context(self.networks[shape]) as network:
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

    def composite(self, bounds: list[Tensor]) -> Composite:
        """zennit's rule for each module of `Network`; what is left to its plain gradient has that as its rule: the
        winner takes all, a concatenation splits, a new shape, in proportion to the softmax.
        """
        zero_bias = "bias" if self.bias == "ignore" else None

        def rule(ctx: dict, name: str, module: nn.Module):
            if isinstance(module, nn.Conv2d | nn.Linear):
                if module.of_image:
                    return ZBox(*(applied(module.before, bound) for bound in bounds), stabilizer=nonzero)
                return ZPlus(stabilizer=nonzero, zero_params=zero_bias)
            if isinstance(module, ZennitSum) or isinstance(getattr(module, "operation", None), Average):
                return Norm(stabilizer=nonzero)
            return Pass() if isinstance(getattr(module, "operation", None), Through) else None

        return Composite(module_map=rule)


class Network(nn.Module):
    """A program as modules that zennit's hooks can attach to, one for each step."""

    def __init__(self, program: Program):
        super().__init__()
        self.program = program
        made_of_image: dict[int, list] = {0: []}  # the image, reshaped or padded: by what
        modules = []
        for step in program.steps:
            module = as_module(step.operation)
            if isinstance(step.operation, Affine):
                module.of_image = step.of_image
                module.before = tuple(made_of_image[step.inputs[0]]) if step.of_image else ()
            elif step.of_image:
                made_of_image[step.output] = [*made_of_image[step.inputs[0]], step.operation]
            modules.append(module)
        self.steps = nn.ModuleList(modules).requires_grad_(False).eval()

    def forward(self, image: Tensor) -> Tensor:
        values = {0: image}
        for step, module in zip(self.program.steps, self.steps, strict=True):
            given = [values[i] for i in step.inputs]
            values[step.output] = module(torch.stack(given, -1)) if isinstance(module, ZennitSum) else module(*given)
        return values[self.program.output]


def applied(operations: tuple, bound: Tensor) -> Tensor:
    """What reshaping and padding make of a bound of the image."""
    for operation in operations:
        bound = operation(bound)
    return bound


class Operated(nn.Module):
    """An operation without weights as a module."""

    def __init__(self, operation):
        super().__init__()
        self.operation = operation

    def forward(self, *a: Tensor) -> Tensor:
        return self.operation(*a)


@torch.no_grad()
def as_module(operation) -> nn.Module:
    """A module of torch or zennit that computes what the operation does."""
    if isinstance(operation, Sum):
        return ZennitSum()
    if isinstance(operation, Through) and operation.function in NOT_IN_PLACE:
        return Operated(Through(NOT_IN_PLACE[operation.function]))
    if not isinstance(operation, Affine):
        return Operated(operation)
    weight, bias, *_ = operation.weights()
    if isinstance(operation, Conv):
        settings = operation.stride, operation.padding, operation.dilation, operation.groups
        channels = weight.shape[1] * operation.groups, weight.shape[0]
        module = nn.Conv2d(*channels, tuple(weight.shape[2:]), *settings, bias=bias is not None)
    elif isinstance(operation, Linear):
        module = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    elif weight.ndim == 3:  # a scale for each channel
        count = len(weight)
        module, weight = nn.Conv2d(count, count, 1, groups=count), weight[:, None]
    else:
        module, weight = nn.Linear(len(weight), len(weight)), weight.diag()
    module.weight = nn.Parameter(weight.clone())
    if bias is not None:
        module.bias = nn.Parameter(bias.clone())
    return module
