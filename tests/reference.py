"""The paper's equations once more: slow, plain, in NumPy, float64, one image at a time.

The judge of the package's fast code, written from the paper alone. A network is a list of nodes on flat vectors, each
a layer and the values that it looks at: value 0 is the image, value k + 1 what node k makes. A convolution is a matrix
W (outputs j, inputs i) with almost only zeros, flattening is nothing, and every sum over i or j below is the sum that
the equation prints. The matrices that look at the image take pixels in [0, 255]: the normalisation is folded into them,
so the bounds of eq. (5) are l = 0 and h = 255.

`x` is one image as a flat vector, channels first. Gradients are complex-step derivatives, exact to rounding: every
function here is analytic wherever it has a derivative, and compares real parts only.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
from torch import nn


# ---------------------------------------------------------------------------------------------- the network, read
@dataclass
class Linear:
    weight: np.ndarray  # (outputs, inputs)
    bias: np.ndarray  # (outputs,)


@dataclass
class AveragePool:
    weight: np.ndarray  # (outputs, inputs)


@dataclass
class MaxPool:
    windows: list[list[int]]  # for each output, the inputs that it looks at


@dataclass
class ReLU:
    ceiling: float = np.inf


class Sum:
    """Of two values."""


class Concatenation:
    """Channels first, so that flat vectors follow one another."""


@dataclass
class Pad:
    weight: np.ndarray  # (outputs, inputs), 1 where an output is an input; elsewhere zeros are put


@dataclass
class Node:
    layer: object
    inputs: tuple[int, ...]
    folds: bool = False  # batch normalisation behind it


def read(classifier, image_shape: tuple[int, int, int]) -> list[Node]:
    """The nodes of a c2f_lrp Classifier for images (3, H, W), those that look at the image taking pixels in [0, 255].

    Its layers are a sequence, or a `networks.Graph` whose `nodes` say what each layer looks at.
    """
    given = getattr(classifier.layers, "nodes", None)
    if given is None:
        given = [(layer, (k,)) for k, layer in enumerate(classifier.layers)]
    uses = [i for _, inputs in given for i in inputs]
    shapes, nodes = [image_shape], []
    for layer, inputs in given:
        shape = shapes[inputs[0]]
        if isinstance(layer, nn.Conv2d):
            weight, bias, shape = unroll_convolution(layer, shape)
            read = Linear(weight, bias)
        elif isinstance(layer, nn.Linear):
            bias = np.zeros(layer.out_features) if layer.bias is None else array(layer.bias)
            read, shape = Linear(array(layer.weight), bias), (layer.out_features,)
        elif isinstance(layer, nn.BatchNorm2d | nn.BatchNorm1d):
            read = unroll_norm(layer, shape)
            before = nodes[inputs[0] - 1] if inputs[0] else None
            if before and isinstance(before.layer, Linear) and before.folds and uses.count(inputs[0]) == 1:
                # g (W a + b) + o as one linear layer, which the one before becomes; this one does nothing
                factor = np.diag(read.weight)
                merged = Linear(factor[:, None] * before.layer.weight, factor * before.layer.bias + read.bias)
                before.layer, before.folds, read = merged, False, Nothing()
        elif isinstance(layer, nn.MaxPool2d | nn.AvgPool2d | nn.AdaptiveAvgPool2d):
            read, shape = unroll_pool(layer, shape)
        elif layer == "mean":
            read, shape = unroll_pool(nn.AdaptiveAvgPool2d(1), shape)[0], shape[:1]
        elif isinstance(layer, nn.ReLU6):
            read = ReLU(6)
        elif isinstance(layer, nn.ReLU):
            read = ReLU()
        elif isinstance(layer, nn.ZeroPad2d):
            read, shape = unroll_pad(layer, shape)
        elif layer == "sum":
            read = Sum()
        elif layer == "cat":
            read, shape = Concatenation(), (sum(shapes[i][0] for i in inputs), *shape[1:])
        elif isinstance(layer, nn.Flatten | nn.Dropout | nn.Identity):
            read, shape = Nothing(), (int(np.prod(shape)),) if isinstance(layer, nn.Flatten) else shape
        else:
            raise TypeError(f"the twin knows no {layer}")
        nodes.append(Node(read, inputs, isinstance(layer, nn.Conv2d | nn.Linear)))
        shapes.append(shape)
    see_pixels(nodes, *(array(buffer).ravel() for buffer in (classifier.mean, classifier.std)), image_shape)
    return nodes


class Nothing:
    """What changes no value: flattening, dropout in inference."""


def see_pixels(nodes: list[Node], mean: np.ndarray, std: np.ndarray, image_shape) -> None:
    """W (P (x - mean) / std) + b = (W P / std) x + (b - W P mean / std), P being what pads, if anything does."""
    pixels = image_shape[1] * image_shape[2]
    mean, std = np.repeat(mean, pixels), np.repeat(std, pixels)
    way = {0: np.eye(len(mean))}  # values that are the image, at most padded: by which matrix
    for k, node in enumerate(nodes):
        if node.inputs[0] not in way:
            continue
        before = way[node.inputs[0]]
        if isinstance(node.layer, Pad):
            way[k + 1] = node.layer.weight @ before
        elif isinstance(node.layer, Nothing):
            way[k + 1] = before
        elif isinstance(node.layer, Linear):
            weight = node.layer.weight @ before
            node.layer = Linear(weight / std, node.layer.bias - weight @ (mean / std))
            node.inputs = (0,)
        else:
            raise TypeError("the twin knows eq. (5) for layers with weights only")


def unroll_norm(layer: nn.BatchNorm1d | nn.BatchNorm2d, shape) -> Linear:
    """g (a - m) / sqrt(v + e) + o, one (g, m, v, o) per channel, as a diagonal matrix."""
    mean, variance = array(layer.running_mean), array(layer.running_var)
    gain, offset = (array(layer.weight), array(layer.bias)) if layer.affine else (1, 0)
    factor = gain / np.sqrt(variance + layer.eps)
    positions = int(np.prod(shape[1:]))
    return Linear(np.diag(np.repeat(factor, positions)), np.repeat(offset - factor * mean, positions))


def unroll_pad(pad: nn.ZeroPad2d, shape) -> tuple[Pad, tuple]:
    left, right, top, bottom = pad.padding
    channels, height, width = shape
    out_shape = (channels, height + top + bottom, width + left + right)
    weight = np.zeros((*out_shape, *shape))
    for c, y, x in product(*map(range, shape)):
        weight[c, y + top, x + left, c, y, x] = 1
    return Pad(weight.reshape(int(np.prod(out_shape)), -1)), out_shape


def array(parameter) -> np.ndarray:
    return parameter.detach().double().numpy()


def pair(value) -> tuple[int, int]:
    return value if isinstance(value, tuple) else (value, value)


def unroll_convolution(conv: nn.Conv2d, shape) -> tuple[np.ndarray, np.ndarray, tuple]:
    """W (outputs, inputs), b (outputs,) and the shape of the output, by the definition of a convolution."""
    _, height, width = shape
    (dy, dx), (sy, sx), (py, px) = conv.dilation, conv.stride, conv.padding
    kernel = array(conv.weight)  # (output channels, input channels of its group, ky, kx)
    outputs, per_group, ky, kx = kernel.shape
    out_height = (height + 2 * py - dy * (ky - 1) - 1) // sy + 1
    out_width = (width + 2 * px - dx * (kx - 1) - 1) // sx + 1
    weight = np.zeros((outputs, out_height, out_width, *shape))
    for o, row, column in product(range(outputs), range(out_height), range(out_width)):
        group = o // (outputs // conv.groups)
        for c, i, j in product(range(per_group), range(ky), range(kx)):
            y, x = row * sy - py + i * dy, column * sx - px + j * dx
            if 0 <= y < height and 0 <= x < width:  # elsewhere lies the padding, which is zero
                weight[o, row, column, group * per_group + c, y, x] += kernel[o, c, i, j]
    bias = np.zeros(outputs) if conv.bias is None else array(conv.bias)
    out_shape = (outputs, out_height, out_width)
    inputs = int(np.prod(shape))
    return weight.reshape(-1, inputs), np.repeat(bias, out_height * out_width), out_shape


def unroll_pool(pool: nn.Module, shape) -> tuple[MaxPool | AveragePool, tuple]:
    """The windows of a max pooling, the matrix of an average pooling; and the shape of the output."""
    channels, height, width = shape
    if isinstance(pool, nn.AdaptiveAvgPool2d):
        counts = pair(pool.output_size)
        spans = [
            [(k * size // count, -(-(k + 1) * size // count)) for k in range(count)]
            for size, count in zip((height, width), counts, strict=True)
        ]
    else:
        assert not pool.ceil_mode and pair(getattr(pool, "dilation", 1)) == (1, 1), "not in the twin"
        spans = [
            [(k * s - p, k * s - p + kernel) for k in range((size + 2 * p - kernel) // s + 1)]
            for size, kernel, s, p in zip(
                (height, width), pair(pool.kernel_size), pair(pool.stride), pair(pool.padding), strict=True
            )
        ]
    out_shape = (channels, len(spans[0]), len(spans[1]))
    windows, sizes = [], []
    for c, (top, bottom), (left, right) in product(range(channels), *spans):
        inside = product(range(max(top, 0), min(bottom, height)), range(max(left, 0), min(right, width)))
        windows.append([(c * height + y) * width + x for y, x in inside])
        sizes.append((bottom - top) * (right - left))  # an average counts the padding
    if isinstance(pool, nn.MaxPool2d):
        return MaxPool(windows), out_shape
    weight = np.zeros((len(windows), channels * height * width))
    for j, window in enumerate(windows):
        weight[j, window] = 1 / sizes[j]
    return AveragePool(weight), out_shape


# ------------------------------------------------------------------------------------------------------- forward
def activations(network: list[Node], x: np.ndarray) -> list[np.ndarray]:
    """The image, and what each node makes, the last being the logits."""
    a = [np.asarray(x).ravel()]
    for node in network:
        a.append(forward(node.layer, *(a[i] for i in node.inputs)))
    return a


def forward(layer, a: np.ndarray, *others: np.ndarray) -> np.ndarray:
    match layer:
        case Linear():
            return (layer.weight * a).sum(1) + layer.bias
        case AveragePool() | Pad():
            return (layer.weight * a).sum(1)
        case MaxPool():
            return a[winners(layer, a)]
        case ReLU():
            return np.where(a.real > layer.ceiling, layer.ceiling, np.where(a.real > 0, a, 0))
        case Sum():
            return a + others[0]
        case Concatenation():
            return np.concatenate([a, *others])
        case Nothing():
            return a


def winners(pool: MaxPool, a: np.ndarray) -> np.ndarray:
    """For each output, the input with the largest value."""
    return np.array([window[np.argmax(a.real[window])] for window in pool.windows])


def logits(network: list, x: np.ndarray) -> np.ndarray:
    return activations(network, x)[-1]


def predict(network: list, x: np.ndarray) -> int:
    """Eqs. (1) and (2): argmax_i C_i(x), or argmax_j F^i_j(x)."""
    return int(np.argmax(logits(network, x).real))


# ----------------------------------------------------------------------------------------------------- relevance
def eq_3(n_labels: int, c: int) -> np.ndarray:
    """(3) R_i^L = 1 for i = c, else 0."""
    return np.eye(n_labels)[c]


def eq_4(a, weight, bias, relevance_out, absorb: bool) -> np.ndarray:
    """(4) R_i = sum_j [ (a_i w_ij)+ / sum_k (a_k w_kj)+ ] R_j, which for a >= 0 has the paper's a_i w+_ij.

    With `absorb`, b+_j joins the sum in the denominator.
    """
    z = positive(a * weight)  # (j, i)
    denominator = z.sum(1) + (np.maximum(bias, 0) if absorb else 0)
    return hand_down(z, denominator, relevance_out)


def positive(values) -> np.ndarray:
    return np.where(values.real > 0, values, 0)


def size(values) -> np.ndarray:
    """|values|, with the derivative of that."""
    return np.where(values.real < 0, -values, values)


def epsilon_rule(a, weight, bias, relevance_out, absorb: bool, epsilon=1e-2) -> np.ndarray:
    """Bach et al. 2015, eq. (58): z_ij = a_i w_ij, its sum moved away from zero by epsilon."""
    z = a * weight
    total = z.sum(1) + (bias if absorb else 0)
    return hand_down(z, total + np.where(total.real >= 0, epsilon, -epsilon), relevance_out)


def gamma_rule(a, weight, bias, relevance_out, absorb: bool, gamma=0.25) -> np.ndarray:
    """Montavon et al. 2019: z_ij = a_i w_ij + gamma (a_i w_ij)+"""
    z = a * weight + gamma * positive(a * weight)
    b = bias + gamma * np.maximum(bias, 0) if absorb else 0
    return hand_down(z, z.sum(1) + b, relevance_out)


def alpha_beta_rule(a, weight, bias, relevance_out, absorb: bool, alpha=2.0, beta=1.0) -> np.ndarray:
    """Bach et al. 2015, eq. (60): alpha of the share in (a_i w_ij)+, less beta of that in (a_i w_ij)-."""
    z = a * weight
    plus, minus = positive(z), -positive(-z)
    b_plus, b_minus = (np.maximum(bias, 0), np.minimum(bias, 0)) if absorb else (0, 0)
    for_it = hand_down(plus, plus.sum(1) + b_plus, relevance_out)
    return alpha * for_it - beta * hand_down(minus, minus.sum(1) + b_minus, relevance_out)


RULES = {"z+": eq_4, "epsilon": epsilon_rule, "gamma": gamma_rule, "alpha-beta": alpha_beta_rule}


def eq_5(x, weight, relevance_out, low=0.0, high=255.0) -> np.ndarray:
    """(5) R_i = sum_j [ (x_i w_ij - l w+_ij - h w-_ij) / sum_k (x_k w_kj - l w+_kj - h w-_kj) ] R_j."""
    z = x * weight - low * np.maximum(weight, 0) - high * np.minimum(weight, 0)  # (j, i)
    return hand_down(z, z.sum(1), relevance_out)


def max_pool_rule(pool: MaxPool, a, relevance_out) -> np.ndarray:
    """The winner takes all."""
    relevance_in = np.zeros(len(a), relevance_out.dtype)
    for i, r in zip(winners(pool, a), relevance_out, strict=True):
        relevance_in[i] += r
    return relevance_in


def average_pool_rule(pool: AveragePool, a, relevance_out) -> np.ndarray:
    """In proportion to the size of the inputs."""
    z = size(a) * pool.weight  # (j, i)
    return hand_down(z, z.sum(1), relevance_out)


def sum_rule(a, b, relevance_out) -> tuple[np.ndarray, np.ndarray]:
    """In proportion to the size of the terms: R_1 = |a_1| / (|a_1| + |a_2|) R."""
    total = size(a) + size(b)
    ratio = np.where(total != 0, relevance_out / np.where(total != 0, total, 1), 0)
    return size(a) * ratio, size(b) * ratio


def hand_down(z, denominator, relevance_out) -> np.ndarray:
    """R_i = sum_j [ z_ji / denominator_j ] R_j, where 0 / 0 is 0."""
    alive = denominator != 0
    ratio = relevance_out[alive] / denominator[alive]
    return (z[alive] * ratio[:, None]).sum(0)


def relevance(
    network: list[Node], x: np.ndarray, c: int, init: str = "one_hot", bias: str = "ignore", rule: str = "z+"
) -> np.ndarray:
    """LRP_G(x; c): the relevance of each pixel, flat. init "logit" starts at the logit of c in place of 1."""
    a = activations(network, x)
    r = [np.zeros(len(value), complex if np.iscomplexobj(a[-1]) else float) for value in a]
    r[-1] = eq_3(len(a[-1]), c) * (a[-1] if init == "logit" else 1)
    for k in range(len(network) - 1, -1, -1):
        layer, inputs, out = network[k].layer, network[k].inputs, r[k + 1]
        first = a[inputs[0]]
        match layer:
            case Linear() if inputs[0] == 0:
                parts = [eq_5(a[0], layer.weight, out)]
            case Linear():
                parts = [RULES[rule](first, layer.weight, layer.bias, out, absorb=bias == "absorb")]
            case MaxPool():
                parts = [max_pool_rule(layer, first, out)]
            case AveragePool():
                parts = [average_pool_rule(layer, first, out)]
            case Sum():
                parts = sum_rule(first, a[inputs[1]], out)
            case Concatenation():
                parts = np.split(out, np.cumsum([len(a[i]) for i in inputs])[:-1])
            case Pad():
                parts = [(layer.weight * out[:, None]).sum(0)]
            case _:
                parts = [out]  # one input, one output
        for i, part in zip(inputs, parts, strict=True):
            r[i] = r[i] + part
    return r[0]


# -------------------------------------------------------------------------------------------- labels and losses
def eq_6(network: list, x: np.ndarray) -> tuple[int, int]:
    """(6) r_org and the runner-up r_adv; (8) f_org and f_adv, where the network is a fine one."""
    order = np.argsort(-logits(network, x).real)
    return int(order[0]), int(order[1])


def eq_7(relevance_org, relevance_adv, p: float) -> float:
    """(7) ||R_org+||_p - ||R_adv+||_p - ||R_org-||_p + ||R_adv-||_p; (9) is the same on a fine network."""
    plus_org, minus_org = parts(relevance_org)
    plus_adv, minus_adv = parts(relevance_adv)
    return norm(plus_org, p) - norm(plus_adv, p) - norm(minus_org, p) + norm(minus_adv, p)


def parts(r) -> tuple[np.ndarray, np.ndarray]:
    """The positive part and the size of the negative part."""
    return np.where(r.real > 0, r, 0), np.where(r.real < 0, -r, 0)


def norm(values, p: float):
    """||values||_p of values >= 0."""
    if p == np.inf:
        return values[np.argmax(values.real)]
    if p == 1:
        return values.sum()
    total = (values**p).sum()
    return total ** (1 / p) if total != 0 else 0 * total


def loss(network, x, org, adv, p=1, init="one_hot", bias="ignore"):
    """L_C (eq. 7) or L_F (eq. 9) of an image."""
    r_org, r_adv = (relevance(network, x, c, init, bias) for c in (org, adv))
    return eq_7(r_org, r_adv, p)


def cross_entropy(network, x, label):
    z = logits(network, x)
    return np.log(np.exp(z - z.real.max()).sum()) + z.real.max() - z[label]


def gradient(function, x: np.ndarray, step: float = 1e-30) -> np.ndarray:
    """d function / d x_i, for function values of any shape: (..., pixels). Complex step, no cancellation."""
    columns = []
    for i in range(len(x)):
        at = x.astype(complex)
        at[i] += 1j * step
        columns.append(np.imag(function(at)) / step)
    return np.stack(columns, -1)


# --------------------------------------------------------------------------------------------- steps of attacks
def clip(x, eta, eps) -> np.ndarray:
    """eta clipped to [-eps, eps], and x + eta to [0, 255]."""
    return np.clip(x + np.clip(eta, -eps, eps), 0, 255) - x


def algorithm_1_step(network, x, eta, org, adv, lr, eps, p=1, init="one_hot", bias="ignore", normalized=False):
    """Algorithm 1: eta <- clip(eta - lr dL/deta). `normalized`: the gradient is divided by its largest entry."""
    g = gradient(lambda at: loss(network, at, org, adv, p, init, bias), x + eta)
    if normalized:
        g = g / np.abs(g).max()
    return clip(x, eta - lr * g, eps)


def algorithm_1(
    coarse, fine, x, y, z, iterations, lr, eps, attack,
    *, p=1, init="one_hot", bias="ignore", normalized=False, labels="updated", fine_network="updated",
):  # fmt: skip
    """Algorithm 1, line by line: (eta, fooled, k).

    `labels` "updated" reads r_org, r_adv, f_org and f_adv again in line 9, as printed; "clean" keeps those of line 3
    for the loss. `fine_network` "updated": r_org names the fine network of eq. (9), so after line 9 that is another one
    where the coarse label has changed, as printed; "kept": it is that of y throughout. Where r_org has a single fine
    class, which has no f_adv, the network of y stands in. Line 8 prints clip(v; ...), where eta is meant; the text adds
    that the image is clipped to [0, 255].
    """

    def read(at):  # lines 3 and 9
        r_org, r_adv = eq_6(coarse, at)
        i = r_org if fine_network == "updated" and len(fine) > r_org and fine[r_org] is not None else y
        f_org, f_adv = eq_6(fine[i], at)
        return r_org, r_adv, i, f_org, f_adv

    eta, k = np.zeros_like(x), 0  # line 2
    r_org, r_adv, i, f_org, f_adv = read(x)  # line 3
    clean = r_org, r_adv, y, *eq_6(fine[y], x)
    while k < iterations:  # line 4
        use = (r_org, r_adv, i, f_org, f_adv) if labels == "updated" else clean
        network, org, adv = (coarse, *use[:2]) if attack == "LRPC" else (fine[use[2]], *use[3:])
        g = gradient(lambda at: loss(network, at, org, adv, p, init, bias), x + eta)  # noqa: B023  # lines 5 and 6
        if normalized:
            g = g / np.abs(g).max()
        eta = eta - lr * g  # line 7
        eta = clip(x, eta, eps)  # line 8
        r_org, r_adv, i, f_org, f_adv = read(x + eta)  # line 9
        k += 1  # line 10
        if attack == "LRPC" and r_org != y:  # lines 11 and 12
            return eta, True, k
        if attack == "LRPF" and r_org == y and f_org != z:  # lines 15 and 16
            return eta, True, k
    return eta, False, k  # line 21


def pgd_step(network, x, eta, label, step, eps):
    """Projected gradient descent in l_inf: a step of fixed size up the cross-entropy of the label, then the clip."""
    g = gradient(lambda at: cross_entropy(network, at, label), x + eta)
    return clip(x, eta + step * np.sign(g), eps)


def deepfool_step(network, x, label, candidates=None, nudge=0.0):
    """DeepFool in l_2: the shortest way to the nearest linearised boundary with another of the candidate labels.

    nudge: what later versions of the authors' code, and not their paper, add to its length.
    """
    z = logits(network, x)
    jacobian = gradient(lambda at: logits(network, at), x)  # (labels, pixels)
    others = [k for k in np.argsort(-z) if k != label][:candidates]
    ways = []
    for k in others:
        w, f = jacobian[k] - jacobian[label], z[k] - z[label]
        ways.append((abs(f) / norm(w, 2) + nudge) * w / norm(w, 2))
    return min(ways, key=np.linalg.norm)


# ------------------------------------------------------------------------------------------------------ measures
def eq_10(perturbations, images, p: float) -> float:
    """(10) rho^p = mean over the images of ||eta||_p / ||x||_p."""
    ratios = [norm(abs(eta.ravel()), p) / norm(abs(x.ravel()), p) for eta, x in zip(perturbations, images, strict=True)]
    return sum(ratios) / len(ratios)


def fooling_ratio(before: list[int], after: list[int]) -> float:
    """The share of images whose label the attack changed."""
    return sum(b != a for b, a in zip(before, after, strict=True)) / len(before)


def relevance_mass(heatmap: np.ndarray, mask: np.ndarray) -> float:
    """Of one heatmap (3, H, W), channels added up: the share of the positive relevance inside the mask (H, W)."""
    positive = np.maximum(heatmap.sum(0), 0)
    return positive[mask].sum() / positive.sum() if positive.sum() and mask.any() else float("nan")


def relevance_rank(heatmap: np.ndarray, mask: np.ndarray) -> float:
    """Of the k pixels with the most relevance, k = |mask|, the share inside the mask."""
    summed, inside = heatmap.sum(0).ravel(), mask.ravel()
    k = int(inside.sum())
    best = sorted(range(len(summed)), key=lambda i: -summed[i])[:k]
    return sum(inside[i] for i in best) / k if k else np.nan


def perturbation_share(eta: np.ndarray, mask: np.ndarray) -> float:
    size = abs(eta).sum(0)
    return sum(size[mask]) / sum(size.ravel()) if mask.any() else float("nan")


def hoyer(eta: np.ndarray) -> float:
    size = abs(eta).sum(0).ravel()
    n = len(size)
    return (n**0.5 - sum(size) / sum(size**2) ** 0.5) / (n**0.5 - 1)


def entropy(eta: np.ndarray) -> float:
    shares = abs(eta).sum(0).ravel() / abs(eta).sum()
    return -sum(q * np.log(q) for q in shares if q > 0) / np.log(len(shares))


def contrast(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(3, H, W) twice -> (H, W): the difference, each divided by the sum of its absolute values per pixel."""
    one, other = (r.sum(0) / abs(r.sum(0)).sum() for r in (a, b))
    return one - other


def evidence_regions(r_org: np.ndarray, r_adv: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """The pixels where the one heatmap exceeds the other most."""
    masks = []
    for difference in (contrast(r_org, r_adv), contrast(r_adv, r_org)):
        flat = difference.ravel()
        best = sorted(range(len(flat)), key=lambda i: -flat[i])[: round(share * len(flat))]
        masks.append(np.isin(np.arange(len(flat)), best).reshape(difference.shape))
    return tuple(masks)


def regions_loss(network, x, org, adv, regions, init, bias):
    shape = (-1, *regions[0].shape)
    r_org, r_adv = (relevance(network, x, c, init, bias).reshape(shape).sum(0) for c in (org, adv))
    return r_org[regions[0]].sum() - r_adv[regions[1]].sum()


def attention_loss(network, x, org, adv, regions, clean_margin, init, bias):
    r_org = relevance(network, x, org, init, bias).reshape(-1, *regions[0].shape).sum(0)
    positive, _ = parts(r_org)
    f = logits(network, x)
    share = [positive[mask].sum() / positive.sum() for mask in regions]
    return (f[org] - f[adv]) / clean_margin + share[0] - share[1]
