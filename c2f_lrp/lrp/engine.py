"""Layer-wise Relevance Propagation through a network's graph, differentiable with respect to the pixels.

Two ways through the same rules (`c2f_lrp.lrp.rules` for layers with weights, `c2f_lrp.lrp.operations` for the rest):

    relevance()   backwards, step by step, eqs. (3)-(5) to the letter: the heatmap of one label
    totals()      forwards: `reach`, the share of a unit's relevance that arrives at the pixels, is 1 on every pixel.
                  At the logits it is the total relevance sum_i R_i^0 of every label at once, and for p = 1 eqs. (7) and
                  (9) need nothing else.

What costs is convolutions. The second way takes three in a layer, W a, W+ a and W+ (a reach), and their transposes
for the derivative: as much as six plain forward passes for a loss and its gradient, and less while reach is 1
everywhere, as it is after the first layer. Where inputs may be negative, W+ and W- are applied side by side. Tensors
lie in memory as the device convolves fastest. On a GPU, put a gradient that you take yourself into
`c2f_lrp.devices.whole_float32`, as `c2f_lrp.attacks.base.input_gradient` does.
"""

from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from c2f_lrp.checks import check_labels, check_pixels, hooked
from c2f_lrp.classifier import finite
from c2f_lrp.devices import fast_layout, whole_float32
from c2f_lrp.lrp.affine import Affine
from c2f_lrp.lrp.graph import BATCH, Program, Step, read
from c2f_lrp.lrp.rules import BIASES, INITS, Rule, ZBeta, as_rule, start


class LRP:
    """LRP_G(x; c) of a classifier G: `classifier.layers`, any feed-forward network, behind `classifier.normalize`.

    init: the relevance that label c starts with at the output: "one_hot", 1 (eq. 3), or "logit", its logit, where the
    code of the paper's reference [21] starts. bias: "ignore" (eq. 4 as printed) or "absorb", see
    `c2f_lrp.lrp.rules`. rule: the name of a rule in `c2f_lrp.lrp.RULES` or a `Rule`, for all layers with weights but
    the first, whose rule is eq. (5). Batch normalisation is folded into the layer before it, if there is one.

    The network is read when the first images come, and its logits are then compared with the classifier's own. Its
    weights may change between calls.

    Raises ValueError for an unknown choice, for a network in training mode and for pixels or labels that do not fit,
    TypeError for whatever in the network has no rule.
    """

    def __init__(self, classifier: nn.Module, init: str = "one_hot", bias: str = "absorb", rule: str | Rule = "z+"):
        check_choices(classifier, init, bias)
        self.classifier = classifier
        self.init = init
        self.bias = bias
        self.rule = as_rule(rule)

    def relevance(self, pixels: Tensor, labels: Tensor) -> Tensor:
        """Heatmaps (N, 3, H, W): the relevance of every pixel in [0, 255] for labels (N,). Differentiable.

        Normalising an image moves no relevance between pixels, so it is the same per pixel as per normalised value.
        """
        return self.relevances(pixels, [labels])[0]

    @whole_float32()
    def relevances(self, pixels: Tensor, labels: list[Tensor]) -> list[Tensor]:
        """One heatmap (N, 3, H, W) for each entry (N,) of `labels`, sharing the forward pass and the denominators."""
        logits, way_back = self.forward(pixels)
        for entry in labels:
            check_labels(entry, *logits.shape)
        for at in self.backward(way_back, [start(logits, entry, self.init) for entry in labels]):
            arrived = at
        return arrived[0]

    @whole_float32()
    def totals_by_layer(self, pixels: Tensor, labels: Tensor) -> Tensor:
        """Total relevance (L + 1, N) for labels (N,) at the output and then before each of the L steps, last to first.

        In a sequence, that is at the inputs of each layer, the last being the pixels. In a graph it is all relevance on
        its way at that moment: on the inputs of the step and of every later one that is not made by an earlier one.
        """
        logits, way_back = self.forward(pixels)
        check_labels(labels, *logits.shape)
        totals = [
            sum(relevance.flatten(1).sum(1) for (relevance,) in at.values())
            for at in self.backward(way_back, [start(logits, labels, self.init)])
        ]
        return torch.stack(totals)

    def forward(self, pixels: Tensor) -> tuple[Tensor, list[tuple[Step, Any]]]:
        """Logits (N, M), and each step with how it hands relevance down, in order."""
        program = self.program(pixels)
        a, low, high = self.inputs(pixels)
        values, bounds = {0: a}, {0: (low, high)}
        way_back = []
        for step in program.steps:
            given = [values[i] for i in step.inputs]
            if isinstance(step.operation, Affine):
                rule = ZBeta(*bounds[step.inputs[0]]) if step.of_image else self.rule
                values[step.output], back = rule.relevance(step.operation, given[0], self.bias == "absorb")
            else:
                values[step.output], back = step.operation.relevance(*given)
                if step.of_image:
                    bounds[step.output] = tuple(step.operation(bound) for bound in bounds[step.inputs[0]])
            way_back.append((step, back))
            for i in step.last_use_of:
                del values[i]
        return values[program.output], way_back

    def backward(self, way_back: list[tuple[Step, Any]], starts: list[Tensor]) -> Iterator[dict[int, list[Tensor]]]:
        """The relevance on its way, at the output and then before each step: by the value it lies on, of each start."""
        at = {way_back[-1][0].output: starts}
        yield at
        for step, back in reversed(way_back):
            handed = [back(relevance) for relevance in at.pop(step.output)]
            for k, i in enumerate(step.inputs):
                parts = [parts[k] if isinstance(parts, tuple) else parts for parts in handed]
                at[i] = [one + other for one, other in zip(at[i], parts, strict=True)] if i in at else parts
            yield at

    def totals(self, pixels: Tensor) -> Tensor:
        """Total relevance (N, M) of every label c: `relevance(pixels, c).sum((1, 2, 3))`. Differentiable once."""
        return self.logits_and_totals(pixels)[1]

    @whole_float32()
    def logits_and_totals(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """The network's logits (N, M) as its graph computes them, and `totals`, both by one sweep. Differentiable once.

        Batch normalisation is folded here, so the logits are the network's own but for rounding.
        """
        program = self.program(pixels)
        a, low, high = self.inputs(pixels)
        values, bounds = {0: a}, {0: (low, high)}
        reach: dict[int, Tensor | None] = {0: None}  # None: 1 everywhere
        for step in program.steps:
            given, reached = tuple(values[i] for i in step.inputs), tuple(reach[i] for i in step.inputs)
            if isinstance(step.operation, Affine):
                rule = ZBeta(*bounds[step.inputs[0]]) if step.of_image else self.rule
                made = rule.totals(step.operation, given[0], reached[0], self.bias == "absorb")
            else:
                made = step.operation.totals(given, reached)
                if step.of_image:
                    bounds[step.output] = tuple(step.operation(bound) for bound in bounds[step.inputs[0]])
            values[step.output], reach[step.output] = made
            del given, reached, made
            for i in step.last_use_of:
                del values[i], reach[i]
        logits, total = values[program.output], reach[program.output]
        # Also a total that is constant is tied to the pixels: its gradient is 0, and not missing.
        total = (1 if total is None else total) + 0 * logits
        return logits, total if self.init == "one_hot" else total * logits

    def difference(self, pixels: Tensor, org: Tensor, adv: Tensor) -> Tensor:
        """Total relevance of labels `org` (N,) less that of labels `adv` (N,): (N,). Differentiable once."""
        totals = self.totals(pixels)
        for labels in (org, adv):
            check_labels(labels, *totals.shape)
        return (totals.gather(1, org[:, None]) - totals.gather(1, adv[:, None])).squeeze(1)

    def inputs(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the first layer sees: the normalised images (N, 3, H, W), and the bounds l and h of such an image."""
        bounds = (torch.full_like(pixels[:1], value) for value in (0, 255))
        normalize = self.classifier.normalize
        return tuple(fast_layout(normalize(x)) for x in (pixels, *bounds))

    def program(self, pixels: Tensor) -> Program:
        """The network as steps."""
        return program_of(self.classifier, pixels)


# ------------------------------------------------------------------------------------------------- before anything runs
# Each classifier is read once for images of one shape, whoever asks. No program holds its classifier.
_PROGRAMS: WeakKeyDictionary[nn.Module, dict[tuple[int, ...], Program]] = WeakKeyDictionary()


def program_of(classifier: nn.Module, pixels: Tensor) -> Program:
    """The steps of a classifier for images (N, 3, H, W) like these, read anew where a layer was replaced."""
    check_pixels(pixels)
    check_state(classifier)
    check_dtype(classifier, pixels)
    shape, modules = tuple(pixels.shape[1:]), tuple(classifier.layers.modules())
    programs = _PROGRAMS.setdefault(classifier, {})
    if shape not in programs or not same_modules(programs[shape].modules, modules):
        programs[shape] = read_checked(classifier, pixels)
    return programs[shape]


@whole_float32()
def read_checked(classifier: nn.Module, pixels: Tensor) -> Program:
    """The program of a classifier for images like these, whose logits were found to be the classifier's own."""
    with torch.inference_mode(False), torch.no_grad():
        images = pixels.new_zeros((BATCH, *pixels.shape[1:]))
        images += pixels[:1].sum(0)  # the first image, or none
        expected = finite(classifier(images))
        image = classifier.normalize(images)
        program = read(classifier.layers, image)
        logits = program.logits(fast_layout(image))
        check_logits(logits, expected)
    return program


def check_logits(logits: Tensor, expected: Tensor) -> None:
    """Refuse a network that was read wrongly: its logits are not the classifier's own.

    Rounding errors of a pass grow with its depth; the square root of the precision (3e-4 of the largest logit in
    float32, 1.5e-8 in float64) leaves them a factor of a thousand and more, and no operation that was overlooked is so
    small.
    """
    if logits.shape != expected.shape:
        raise TypeError(
            f"the graph gives logits {tuple(logits.shape)} and the classifier {tuple(expected.shape)}; relevance "
            "needs a classifier whose logits are those of its `layers`"
        )
    tolerance = torch.finfo(expected.dtype).eps ** 0.5 * expected.abs().max().item()
    if not torch.allclose(logits, expected, rtol=0, atol=tolerance, equal_nan=True):
        raise TypeError(
            f"the graph's logits differ from the classifier's own by {(logits - expected).abs().max().item():.2g}: its "
            "forward does something that torch.fx does not see (as an operation in place on a tensor that is used "
            "again); its relevance would be that of another network"
        )


def check_dtype(classifier: nn.Module, pixels: Tensor) -> None:
    weight, image = next(classifier.layers.parameters(), None), classifier.normalize(pixels[:0])
    if weight is not None and weight.dtype != image.dtype:
        raise ValueError(f"pixels are {pixels.dtype} and the weights {weight.dtype}; give pixels.to({weight.dtype})")


def same_modules(one: tuple[nn.Module, ...], other: tuple[nn.Module, ...]) -> bool:
    return len(one) == len(other) and all(a is b for a, b in zip(one, other, strict=True))


def check_choices(classifier: nn.Module, init: str, bias: str) -> None:
    """Refuse what no propagation of relevance can start from."""
    if init not in INITS:
        raise ValueError(f"init is {init!r}; choose one of {', '.join(INITS)}")
    if bias not in BIASES:
        raise ValueError(f"bias is {bias!r}; choose one of {', '.join(BIASES)}")
    if not hasattr(classifier, "layers"):
        hint = (
            "give a c2f_lrp.classifier.Classifier (a coarse class with one fine class has no fine network to explain)"
        )
        if hasattr(classifier, "coarse"):
            hint = "give one of its networks, .coarse or .fine[i]"
        elif hasattr(classifier, "module"):
            hint = "give its .module"
        raise TypeError(f"LRP cannot explain a {type(classifier).__name__}: {hint}")
    check_state(classifier)


def check_state(classifier: nn.Module) -> None:
    """Refuse a network that computes something besides its layers, or something else each time."""
    for name, module in classifier.named_modules():
        if module.training:
            raise ValueError("the classifier is in training mode, where dropout is random; call .eval() first")
        name = name.removeprefix("layers.")
        if hooked(module):
            raise TypeError(
                f"layer {name or 'itself'} ({type(module).__name__}) has a forward hook, which could change what "
                "passes; remove it (weight_norm and spectral_norm of old: with torch.nn.utils.remove_*)"
            )
        if hasattr(module, "parametrizations"):
            raise TypeError(
                f"layer {name} has parametrised weights ({', '.join(module.parametrizations)}); bake them in with "
                "torch.nn.utils.parametrize.remove_parametrizations"
            )
    if any(parameter.is_inference() for parameter in classifier.parameters()):
        raise ValueError("the weights were made in torch.inference_mode; load them outside of it")
