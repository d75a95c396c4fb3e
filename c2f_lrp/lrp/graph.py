"""Reading a network's graph, by torch.fx: any feed-forward network made of operations that have a rule.

What is not understood is refused by name and place. Types count only if they are exact: a subclass is traced by its own
forward. A module or function that is called twice is read twice, as if the network were unrolled.
"""

import inspect
import operator
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from c2f_lrp.classifier import GroupLogSumExp, Slice
from c2f_lrp.lrp.affine import Affine, Conv, Linear, Norm, Place, Scale
from c2f_lrp.lrp.operations import Average, Concatenation, Groups, Maximum, Pad, Reshape, Sum, Through

BATCH = 2  # images that a network is traced with; more than one, so that a dimension of size 1 is no batch


class Step(NamedTuple):
    """One operation: which values it takes, which it makes, and which are needed no more afterwards."""

    place: str  # the layer's name, or the function's and the layer that calls it
    kind: str  # what the network calls it: Conv2d, ReLU, add
    operation: Any
    inputs: tuple[int, ...]
    output: int
    of_image: bool  # whether its input is the image itself, at most reshaped or padded
    last_use_of: tuple[int, ...] = ()


class Program(NamedTuple):
    """A network as steps in order. Value 0 is the normalised image, `output` the logits."""

    steps: list[Step]
    output: int
    modules: tuple[nn.Module, ...]  # all modules that the network had when it was read

    def logits(self, image: Tensor) -> Tensor:
        """What the steps compute for normalised images (N, 3, H, W): (N, M)."""
        values = {0: image}
        for step in self.steps:
            values[step.output] = step.operation(*(values[i] for i in step.inputs))
            for i in step.last_use_of:
                del values[i]
        return values[self.output]


@dataclass(frozen=True)
class Value:
    """What a node of the graph stands for while it is read: a tensor (N, ...) of the program."""

    index: int
    ndim: int
    nonnegative: bool  # proven by the graph: behind a ReLU
    of_image: bool


# ------------------------------------------------------------------------------------------------------------ tracing
_ONE_AT_A_TIME = threading.RLock()  # torch.fx patches nn.Module for the time of a trace


class Traced(fx.Proxy):
    """A proxy that knows its value for the images that are traced with, and hence its shape.

    So a padding or a view may be computed from the image's size; the size of the batch stays a symbol.
    """

    value: Any = None

    @property
    def shape(self) -> tuple:
        return (self.size(0), *self.value.shape[1:])

    @property
    def ndim(self) -> int:
        return self.value.ndim

    def dim(self) -> int:
        return self.value.ndim

    def __len__(self) -> int:
        raise fx.proxy.TraceError("len() of a tensor is the size of the batch; x.shape[0] is a symbol for it")

    def size(self, dim: int | None = None):
        if dim is None:
            return self.shape
        if dim % self.value.ndim:
            return self.value.size(dim)
        return self.tracer.create_proxy("call_method", "size", (self, 0), {})


class Tracer(fx.Tracer):
    """Records the graph of `layers` for images like `image`, whose values it computes on the way."""

    proxy_buffer_attributes = True

    def __init__(self, image: Tensor):
        super().__init__()
        self.image = image
        self.computing = False
        self.thread = threading.get_ident()

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        # An empty nn.Sequential is traced as well: it is the identity.
        return type(module) in MODULES or (
            type(module).__module__.startswith("torch.nn") and type(module) is not nn.Sequential
        )

    def proxy(self, node: fx.Node) -> Traced:
        return Traced(node, self)

    def call_module(self, module, forward, args, kwargs):
        if self.computing or threading.get_ident() != self.thread:  # the patch is there for other threads as well
            return forward(*args, **kwargs)
        return super().call_module(module, forward, args, kwargs)

    def getattr(self, attr, value, cache):
        if self.computing or threading.get_ident() != self.thread:
            return value
        return super().getattr(attr, value, cache)

    def create_arg(self, a):
        if isinstance(a, Tensor) and not any(a is known for known in (*self.root.parameters(), *self.root.buffers())):
            raise TypeError(f"a constant tensor of shape {tuple(a.shape)} enters the graph, which has no rule here")
        return super().create_arg(a)

    def create_proxy(self, kind, target, args, kwargs, *rest, **more):
        proxy = super().create_proxy(kind, target, args, kwargs, *rest, **more)
        if isinstance(proxy, Traced):
            proxy.node.meta["place"] = self.scope.module_path
            proxy.value = proxy.node.meta["value"] = self.compute(kind, target, args, kwargs)
        return proxy

    def compute(self, kind: str, target, args, kwargs) -> Any:
        args, kwargs = fx.node.map_aggregate(
            (tuple(args), dict(kwargs)), lambda x: x.value if isinstance(x, Traced) else x
        )
        self.computing = True
        try:
            if kind == "placeholder":
                return args[0] if args else self.image
            if kind == "get_attr":
                return operator.attrgetter(target)(self.root)
            if kind == "call_module":
                return self.root.get_submodule(target).forward(*args, **kwargs)
            if kind == "call_method":
                return getattr(args[0], target)(*args[1:], **kwargs)
            return target(*args, **kwargs) if kind == "call_function" else None
        finally:
            self.computing = False


@torch.no_grad()
def trace(layers: nn.Module, image: Tensor) -> fx.Graph:
    """The graph of `layers` for images (BATCH, 3, H, W) like this one; TypeError where it cannot be traced."""
    optional = {
        name: parameter.default
        for name, parameter in inspect.signature(type(layers).forward).parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }
    try:
        with _ONE_AT_A_TIME:
            return Tracer(image.clone()).trace(layers, optional or None)
    except (fx.proxy.TraceError, NameError, TypeError, AttributeError) as error:
        reason = str(error).splitlines()[0]
        raise TypeError(
            f"{type(layers).__name__} cannot be traced as a graph ({reason}); relevance needs a forward without "
            "decisions that depend on values or on the size of the batch, made of layers and functions of torch"
        ) from error


# ------------------------------------------------------------------------------------------------------------- reading
def read(layers: nn.Module, image: Tensor) -> Program:
    """The program of `layers` for images of the shape of the normalised `image` (BATCH, 3, H, W).

    Raises TypeError, with name and place, for what has no rule.
    """
    return GraphReader(layers).read(trace(layers, image))


class GraphReader:
    """Turns the nodes of a traced graph into steps, in order."""

    def __init__(self, layers: nn.Module):
        self.layers = layers
        self.steps: list[Step] = []
        self.made_by: dict[int, int] = {}  # value -> its step
        self.uses: dict[int, int] = {}
        self.node: fx.Node  # the one that is read

    def read(self, graph: fx.Graph) -> Program:
        nodes: dict[fx.Node, Any] = {}
        wanted = needed(graph)
        for self.node in graph.nodes:
            node = self.node
            if node not in wanted:
                continue
            if node.op == "placeholder":
                # The image is the first; what is optional was given its default.
                nodes[node] = Value(0, 4, False, True) if not nodes else node.meta["value"]
            elif node.op == "output":
                if not isinstance(node.args[0], fx.Node) or not isinstance(nodes[node.args[0]], Value):
                    raise TypeError(
                        "the network's output is no single tensor made of the image; relevance needs logits"
                    )
                return self.program(nodes[node.args[0]].index)
            elif node.op == "get_attr":
                owner, _, name = node.target.rpartition(".")
                nodes[node] = Place(self.layers.get_submodule(owner), name)
            elif not isinstance(node.meta["value"], Tensor):
                nodes[node] = node.meta["value"]  # a size
            else:
                nodes[node] = self.call(node, nodes)
        raise TypeError("the network has no output")

    def call(self, node: fx.Node, nodes: dict) -> Value:
        """Reads one call, and lets who overwrites its input be seen by all that look there later."""
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), nodes.get)
        if node.op == "call_module":
            module = self.layers.get_submodule(node.target)
            args = (module, *args)
            handler = MODULES.get(type(module))
        else:
            handler = (FUNCTIONS if node.op == "call_function" else METHODS).get(node.target)
        if handler is None:
            raise TypeError(self.refusal())
        try:
            given = inspect.signature(handler).bind(self, *args, **kwargs)
        except TypeError as error:
            raise TypeError(self.refusal(f"is called in a way without a rule here ({error})")) from None
        activations = given.arguments.get("tensors", [given.arguments.get("input")])
        fine = all(isinstance(value, Value) for value in activations)
        self.check(fine, "works on something that is no activation, which has no rule here")
        out = handler(*given.args, **given.kwargs)
        if in_place(node, given.arguments):
            nodes[node.args[0]] = out
        return out

    # ------------------------------------------------------------------------------------------- what handlers call
    @property
    def place(self) -> str:
        where, node = self.node.meta["place"], self.node
        if node.op == "call_module":
            return node.target
        return f"{name_of(node)} in {where}" if where else f"{name_of(node)} in forward"

    @property
    def kind(self) -> str:
        node = self.node
        return type(self.layers.get_submodule(node.target)).__name__ if node.op == "call_module" else name_of(node)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the output of the call that is read, without the batch."""
        return tuple(self.node.meta["value"].shape[1:])

    def refusal(self, why: str = "") -> str:
        node = self.node
        if node.op == "call_module":
            module = self.layers.get_submodule(node.target)
            if why:
                return f"layer {node.target} ({module}) {why}"
            known = ", ".join(kind.__name__ for kind in MODULES)
            return f"layer {node.target} is a {type(module).__name__}, which has no rule here; known are {known}"
        where = f"layer {node.meta['place']}" if node.meta["place"] else "forward"
        if why:
            return f"{name_of(node)} in {where} {why}"
        known = ", ".join(sorted({name_of_target(target) for target in (*FUNCTIONS, *METHODS)}))
        return f"{where} calls {name_of(node)}, which has no rule here; known are {known}"

    def check(self, fine: bool, why: str) -> None:
        """Refuses the call that is read, unless it is fine."""
        if not fine:
            raise TypeError(self.refusal(why))

    def append(self, operation, *inputs: Value, nonnegative: bool = False, ndim: int | None = None) -> Value:
        """One more step, and the value that it makes."""
        for value in inputs:
            self.uses[value.index] = self.uses.get(value.index, 0) + 1
        of_image = any(value.of_image for value in inputs)
        keeps = isinstance(operation, (Reshape, Pad)) or (isinstance(operation, Through) and operation.function is same)
        self.check(
            not of_image or isinstance(operation, Affine) or keeps,
            "works on the pixels; eq. (5) is for a first layer with weights",
        )
        output = len(self.steps) + 1
        self.made_by[output] = len(self.steps)
        self.steps.append(Step(self.place, self.kind, operation, tuple(v.index for v in inputs), output, of_image))
        return Value(output, ndim or len(self.shape) + 1, nonnegative, of_image and keeps)

    def program(self, output: int) -> Program:
        """The steps that the output needs, each with the values that nobody looks at after it."""
        wanted, last = {output}, {output}
        steps: list[Step] = []
        for step in reversed(self.steps):
            if step.output in wanted:
                wanted |= set(step.inputs)
                unused = tuple(sorted(set(step.inputs) - last))
                last |= set(step.inputs)
                steps.append(step._replace(last_use_of=unused))
        steps.reverse()
        makers = {step.output: step.operation for step in steps}
        for step in steps:
            # A ReLU may overwrite what a layer or a sum made, if nobody else looks at it: neither keeps its output.
            if isinstance(step.operation, Through) and step.operation.function in OVERWRITING:
                if step.last_use_of and isinstance(makers.get(step.inputs[0]), (Affine, Sum)):
                    step.operation.function = OVERWRITING[step.operation.function]
        return Program(steps, output, tuple(self.layers.modules()))


def needed(graph: fx.Graph) -> set[fx.Node]:
    """The nodes that the output depends on, and those that overwrite something."""
    found: set[fx.Node] = set()
    for node in reversed(graph.nodes):
        if node.op in ("output", "placeholder") or node in found or overwrites_by_name(node):
            found |= {node, *node.all_input_nodes}
    return found


def in_place(node: fx.Node, arguments: dict) -> bool:
    """Whether a call overwrites its input."""
    flag = arguments.get("inplace") or getattr(arguments.get("module"), "inplace", False)
    return bool(flag) or overwrites_by_name(node)


def overwrites_by_name(node: fx.Node) -> bool:
    """add_, relu_ and the like, and +=."""
    called = node.op in ("call_function", "call_method")
    return called and (name_of(node).endswith("_") or node.target is operator.iadd)


def name_of(node: fx.Node) -> str:
    return name_of_target(node.target)


def name_of_target(target) -> str:
    if target is F.max_pool2d:  # torch dispatches it under another name
        return "max_pool2d"
    return target if isinstance(target, str) else getattr(target, "__name__", str(target))


# ------------------------------------------------------------------------------- one function for each kind of call
# Each has the arguments that torch's function has; what it does not name is refused.
def same(a: Tensor) -> Tensor:
    return a


def relu6(a: Tensor) -> Tensor:
    return F.hardtanh(a, 0.0, 6.0)  # on a CPU clamp's derivative is many times slower


def relu6_(a: Tensor) -> Tensor:
    return F.hardtanh_(a, 0.0, 6.0)


OVERWRITING = {torch.relu: torch.relu_, relu6: relu6_}


def pass_on(reader: GraphReader, input: Value) -> Value:
    return reader.append(Through(same), input, nonnegative=input.nonnegative)


def of_dropout(
    reader: GraphReader, input: Value, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Value:
    reader.check(not training, "drops at random; give training=self.training and call .eval()")
    return pass_on(reader, input)


def of_contiguous(reader: GraphReader, input: Value, memory_format=None) -> Value:
    return pass_on(reader, input)


def of_relu(reader: GraphReader, input: Value, inplace: bool = False) -> Value:
    return reader.append(Through(torch.relu), input, nonnegative=True)


def of_relu6(reader: GraphReader, input: Value, inplace: bool = False) -> Value:
    return reader.append(Through(relu6), input, nonnegative=True)


def of_clamp(reader: GraphReader, input: Value, min=None, max=None, inplace: bool = False) -> Value:
    reader.check(min == 0 and max in (None, 6), f"to [{min}, {max}] has no rule here; known are [0, None] and [0, 6]")
    return of_relu(reader, input) if max is None else of_relu6(reader, input)


def of_hardtanh(reader: GraphReader, input: Value, min_val=-1.0, max_val=1.0, inplace: bool = False) -> Value:
    return of_clamp(reader, input, min_val, max_val)


def of_add(reader: GraphReader, input: Value, other: Value, *, alpha: float = 1) -> Value:
    reader.check(isinstance(other, Value), "adds something that is no activation, which has no rule here")
    reader.check(alpha == 1, f"with alpha {alpha} has no rule here")
    shapes = [x.meta["value"].shape for x in reader.node.all_input_nodes]
    reader.check(len(set(shapes)) == 1, "adds tensors of different shapes, which has no rule here")
    return reader.append(Sum(), input, other, nonnegative=input.nonnegative and other.nonnegative)


def of_cat(reader: GraphReader, tensors: list[Value], dim: int = 0) -> Value:
    dim = dim % tensors[0].ndim
    reader.check(dim != 0, "joins along the batch, which has no rule here")
    return reader.append(Concatenation(dim), *tensors, nonnegative=all(x.nonnegative for x in tensors))


def of_shape(reader: GraphReader, input: Value, *sizes, **how) -> Value:
    """flatten, view, reshape, squeeze: what counts is the shape that comes out."""
    value = reader.node.meta["value"]
    before = reader.node.all_input_nodes[0].meta["value"]
    fine = value.shape[:1] == (BATCH,) and value[0].numel() == before[0].numel()
    reader.check(fine, f"makes {tuple(value.shape)} of a batch {tuple(before.shape)}; it must keep the batch")
    return reader.append(Reshape(reader.shape), input, nonnegative=input.nonnegative)


def of_flatten(reader: GraphReader, module: nn.Flatten, input: Value) -> Value:
    return of_shape(reader, input)


def of_pad(reader: GraphReader, input: Value, pad, mode: str = "constant", value: float | None = None) -> Value:
    reader.check(mode == "constant" and not value, f"with mode {mode!r} and value {value} has no rule here; zeros have")
    widths = (*pad, *[0] * (4 - len(pad)))
    reader.check(input.ndim == 4 and len(widths) == 4 and all(isinstance(x, int) for x in widths), "pads no image")
    return reader.append(Pad(widths), input, nonnegative=input.nonnegative)


def of_max_pool(
    reader: GraphReader,
    input: Value,
    kernel_size,
    stride=None,
    padding=0,
    dilation=1,
    ceil_mode=False,
    return_indices=False,
) -> Value:
    reader.check(not return_indices, "returns indices, which has no rule here")
    layer = nn.MaxPool2d(kernel_size, stride, padding, dilation, ceil_mode=ceil_mode)
    return reader.append(Maximum(layer), input, nonnegative=input.nonnegative)


def of_average(reader: GraphReader, input: Value, layer: Callable[[Tensor], Tensor]) -> Value:
    return reader.append(Average(layer, input.nonnegative), input, nonnegative=input.nonnegative)


def of_avg_pool(reader: GraphReader, input: Value, *args, **kwargs) -> Value:
    return of_average(reader, input, nn.AvgPool2d(*args, **kwargs))


def of_adaptive_avg_pool(reader: GraphReader, input: Value, output_size) -> Value:
    return of_average(reader, input, nn.AdaptiveAvgPool2d(output_size))


def of_mean(reader: GraphReader, input: Value, dim=None, keepdim: bool = False) -> Value:
    dims = {d % input.ndim for d in ([dim] if isinstance(dim, int) else dim or [])}
    reader.check(
        input.ndim == 4 and bool(dims) and dims <= {2, 3}, f"over dimensions {dim} has no rule here; over space has"
    )
    return of_average(reader, input, lambda a: a.mean(sorted(dims), keepdim))


def of_conv(
    reader: GraphReader,
    input: Value,
    weight: Place,
    bias: Place | None = None,
    stride=1,
    padding=0,
    dilation=1,
    groups=1,
) -> Value:
    check_parameters(reader, weight, bias)
    stride, dilation = pair(stride), pair(dilation)
    if padding == "same":
        reach = [d * (k - 1) for d, k in zip(dilation, weight.now().shape[2:], strict=True)]
        padding = tuple(r // 2 for r in reach)
        if any(r % 2 for r in reach):  # the odd one goes to the right and to the bottom
            widths = (padding[1], reach[1] - padding[1], padding[0], reach[0] - padding[0])
            input, padding = reader.append(Pad(widths), input, nonnegative=input.nonnegative, ndim=4), 0
    padding = (0, 0) if padding == "valid" else pair(padding)
    layer = Conv(weight, bias, input.nonnegative, None, None, (), stride, padding, dilation, groups)
    return reader.append(layer, input)


def of_linear(reader: GraphReader, input: Value, weight: Place, bias: Place | None = None) -> Value:
    check_parameters(reader, weight, bias)
    return reader.append(Linear(weight, bias, input.nonnegative), input)


def of_norm(
    reader: GraphReader,
    input: Value,
    running_mean: Place | None,
    running_var: Place | None,
    weight: Place | None = None,
    bias: Place | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Value:
    reader.check(running_mean is not None, "keeps no running statistics, which folding needs")
    reader.check(not training, "is in training mode; call .eval()")
    check_parameters(reader, running_mean, running_var, weight, bias)
    assert running_mean is not None and running_var is not None
    norm = Norm(running_mean, running_var, weight, bias, eps)
    before = reader.steps[reader.made_by[input.index]] if input.index in reader.made_by else None
    layer = before.operation if before else None
    channels_fit = isinstance(layer, Conv) or (isinstance(layer, Linear) and input.ndim == 2)
    alone = len(reader.node.all_input_nodes[0].users) == 1
    if isinstance(layer, Affine) and channels_fit and layer.norm is None and alone and not reader.uses.get(input.index):
        layer.norm = norm
        return input
    return reader.append(Scale(None, None, input.nonnegative, norm, ndim=input.ndim), input)


def check_parameters(reader: GraphReader, *places: Place | None) -> None:
    fine = all(place is None or isinstance(place, Place) for place in places)
    reader.check(fine, "computes its weights, which has no rule here; give parameters as they are")


def pair(value) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value) * (2 // len(value))


# Modules are read by the same functions.
def of_conv_module(reader: GraphReader, module: nn.Conv2d, input: Value) -> Value:
    reader.check(module.padding_mode == "zeros", "pads in a way without a rule; give zero padding")
    weight, bias = Place(module, "weight"), place(module, "bias")
    return of_conv(reader, input, weight, bias, module.stride, module.padding, module.dilation, module.groups)


def of_linear_module(reader: GraphReader, module: nn.Linear, input: Value) -> Value:
    return of_linear(reader, input, Place(module, "weight"), place(module, "bias"))


def of_norm_module(reader: GraphReader, module: nn.Module, input: Value) -> Value:
    mean, var, weight, bias = (place(module, name) for name in ("running_mean", "running_var", "weight", "bias"))
    return of_norm(reader, input, mean, var, weight, bias, eps=module.eps)


def place(module: nn.Module, name: str) -> Place | None:
    return None if getattr(module, name) is None else Place(module, name)


def of_pool_module(reader: GraphReader, module: nn.Module, input: Value) -> Value:
    if isinstance(module, nn.MaxPool2d):
        reader.check(not module.return_indices, "returns indices, which has no rule here")
        return reader.append(Maximum(module), input, nonnegative=input.nonnegative)
    return of_average(reader, input, module)


MODULES: dict[type, Callable] = {
    nn.Conv2d: of_conv_module,
    nn.Linear: of_linear_module,
    nn.BatchNorm2d: of_norm_module,
    nn.BatchNorm1d: of_norm_module,
    nn.ReLU: lambda reader, module, input: of_relu(reader, input),
    nn.ReLU6: lambda reader, module, input: of_relu6(reader, input),
    nn.MaxPool2d: of_pool_module,
    nn.AvgPool2d: of_pool_module,
    nn.AdaptiveAvgPool2d: of_pool_module,
    nn.ZeroPad2d: lambda reader, module, input: of_pad(reader, input, module.padding),
    nn.Flatten: of_flatten,
    nn.Dropout: lambda reader, module, input: pass_on(reader, input),
    nn.Dropout2d: lambda reader, module, input: pass_on(reader, input),
    nn.Identity: lambda reader, module, input: pass_on(reader, input),
    GroupLogSumExp: lambda reader, module, input: reader.append(Groups(module), input),
    Slice: lambda reader, module, input: reader.append(Groups(module), input),
}
FUNCTIONS: dict[Callable, Callable] = {
    operator.add: of_add,
    operator.iadd: of_add,
    torch.add: of_add,
    torch.cat: of_cat,
    torch.concat: of_cat,
    F.relu: of_relu,
    torch.relu: of_relu,
    torch.relu_: of_relu,
    F.relu6: of_relu6,
    F.hardtanh: of_hardtanh,
    torch.clamp: of_clamp,
    F.max_pool2d: of_max_pool,
    torch.max_pool2d: of_max_pool,
    F.avg_pool2d: of_avg_pool,
    F.adaptive_avg_pool2d: of_adaptive_avg_pool,
    torch.mean: of_mean,
    torch.flatten: of_shape,
    torch.reshape: of_shape,
    torch.squeeze: of_shape,
    F.pad: of_pad,
    F.dropout: of_dropout,
    F.conv2d: of_conv,
    F.linear: of_linear,
    F.batch_norm: of_norm,
}
METHODS: dict[str, Callable] = {
    "add": of_add,
    "add_": of_add,
    "relu": of_relu,
    "relu_": of_relu,
    "clamp": of_clamp,
    "clamp_": of_clamp,
    "mean": of_mean,
    "flatten": of_shape,
    "view": of_shape,
    "reshape": of_shape,
    "squeeze": of_shape,
    "contiguous": of_contiguous,
}


def leaves(layers: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Names and layers of a sequence in order, sequences inside it unpacked."""
    if isinstance(layers, nn.Sequential):
        for key, layer in enumerate(layers):
            yield from leaves(layer, f"{name}.{key}".lstrip("."))
    else:
        yield name, layers
