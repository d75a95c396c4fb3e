"""The paper's equations once more: slow, plain, in NumPy, float64, one image at a time.

The judge of the package's fast code, written from the paper alone. A network is read into a list of layers on flat
vectors, so that a convolution is a matrix W (outputs j, inputs i) with almost only zeros, flattening is nothing, and
every sum over i or j below is the sum that the equation prints. The first matrix takes pixels in [0, 255]: the
normalisation is folded into it, so the bounds of eq. (5) are l = 0 and h = 255.

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


class ReLU:
    pass


def read(classifier, image_shape: tuple[int, int, int]) -> list:
    """The layers of a c2f_lrp Classifier for images (3, H, W), the first linear one taking pixels in [0, 255]."""
    mean, std = (buffer.double().numpy().ravel() for buffer in (classifier.mean, classifier.std))
    shape, layers = image_shape, []
    for layer in classifier.layers:
        if isinstance(layer, nn.Conv2d):
            weight, bias, shape = unroll_convolution(layer, shape)
            layers.append(Linear(weight, bias))
        elif isinstance(layer, nn.Linear):
            bias = np.zeros(layer.out_features) if layer.bias is None else array(layer.bias)
            layers.append(Linear(array(layer.weight), bias))
            shape = (layer.out_features,)
        elif isinstance(layer, nn.MaxPool2d | nn.AvgPool2d | nn.AdaptiveAvgPool2d):
            pool, shape = unroll_pool(layer, shape)
            layers.append(pool)
        elif isinstance(layer, nn.BatchNorm2d | nn.BatchNorm1d):
            layers.append(fold(layer, layers.pop(), shape))
        elif isinstance(layer, nn.ReLU):
            layers.append(ReLU())
        elif isinstance(layer, nn.Flatten):
            shape = (int(np.prod(shape)),)
        elif not isinstance(layer, nn.Dropout | nn.Identity):
            raise TypeError(f"the twin knows no {type(layer).__name__}")
    # W (x - mean) / std + b  =  (W / std) x + (b - W mean / std)
    pixels_per_channel = image_shape[1] * image_shape[2]
    mean, std = np.repeat(mean, pixels_per_channel), np.repeat(std, pixels_per_channel)
    first = layers[0]
    layers[0] = Linear(first.weight / std, first.bias - first.weight @ (mean / std))
    return layers


def fold(norm: nn.BatchNorm1d | nn.BatchNorm2d, linear: Linear, shape) -> Linear:
    """g (W a + b - m) / sqrt(v + e) + o, one (g, m, v, o) per channel, as one linear layer."""
    assert isinstance(linear, Linear), "not in the twin"
    mean, variance = array(norm.running_mean), array(norm.running_var)
    gain, offset = (array(norm.weight), array(norm.bias)) if norm.affine else (1, 0)
    factor = gain / np.sqrt(variance + norm.eps)
    positions = int(np.prod(shape[1:]))
    factor, shift = np.repeat(factor, positions), np.repeat(offset - factor * mean, positions)
    return Linear(factor[:, None] * linear.weight, factor * linear.bias + shift)


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
def activations(network: list, x: np.ndarray) -> list[np.ndarray]:
    """What enters each layer, and last the logits."""
    a = [np.asarray(x).ravel()]
    for layer in network:
        a.append(forward(layer, a[-1]))
    return a


def forward(layer, a: np.ndarray) -> np.ndarray:
    match layer:
        case Linear():
            return (layer.weight * a).sum(1) + layer.bias
        case AveragePool():
            return (layer.weight * a).sum(1)
        case MaxPool():
            return a[winners(layer, a)]
        case ReLU():
            return np.where(a.real > 0, a, 0)


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
    """(4) R_i = sum_j [ a_i w+_ij / sum_k a_k w+_kj ] R_j; with `absorb`, b+_j joins the sum in the denominator."""
    z = a * np.maximum(weight, 0)  # (j, i)
    denominator = z.sum(1) + (np.maximum(bias, 0) if absorb else 0)
    return hand_down(z, denominator, relevance_out)


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
    """In proportion to the inputs."""
    z = a * pool.weight  # (j, i)
    return hand_down(z, z.sum(1), relevance_out)


def hand_down(z, denominator, relevance_out) -> np.ndarray:
    """R_i = sum_j [ z_ji / denominator_j ] R_j, where 0 / 0 is 0."""
    alive = denominator != 0
    ratio = relevance_out[alive] / denominator[alive]
    return (z[alive] * ratio[:, None]).sum(0)


def relevance(network: list, x: np.ndarray, c: int, init: str = "one_hot", bias: str = "ignore") -> np.ndarray:
    """LRP_G(x; c): the relevance of each pixel, flat. init "logit" starts at the logit of c in place of 1."""
    a = activations(network, x)
    r = eq_3(len(a[-1]), c)
    if init == "logit":
        r = r * a[-1]
    for depth in range(len(network) - 1, -1, -1):
        match layer := network[depth]:
            case Linear() if depth == 0:
                r = eq_5(a[0], layer.weight, r)
            case Linear():
                r = eq_4(a[depth], layer.weight, layer.bias, r, absorb=bias == "absorb")
            case MaxPool():
                r = max_pool_rule(layer, a[depth], r)
            case AveragePool():
                r = average_pool_rule(layer, a[depth], r)
            case ReLU():
                pass  # one input, one output
    return r


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


def deepfool_step(network, x, label, candidates=None):
    """DeepFool in l_2: the shortest way to the nearest linearised boundary with another of the candidate labels."""
    z = logits(network, x)
    jacobian = gradient(lambda at: logits(network, at), x)  # (labels, pixels)
    others = [k for k in np.argsort(-z) if k != label][:candidates]
    ways = []
    for k in others:
        w, f = jacobian[k] - jacobian[label], z[k] - z[label]
        ways.append(abs(f) / (w @ w) * w)
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
    return positive[mask].sum() / positive.sum() if positive.sum() else float("nan")


def relevance_rank(heatmap: np.ndarray, mask: np.ndarray) -> float:
    """Of the k pixels with the most relevance, k = |mask|, the share inside the mask."""
    summed, inside = heatmap.sum(0).ravel(), mask.ravel()
    k = int(inside.sum())
    best = sorted(range(len(summed)), key=lambda i: -summed[i])[:k]
    return sum(inside[i] for i in best) / k if k else np.nan


def perturbation_share(eta: np.ndarray, mask: np.ndarray) -> float:
    size = abs(eta).sum(0)
    return sum(size[mask]) / sum(size.ravel())


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
