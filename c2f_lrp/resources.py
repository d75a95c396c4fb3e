"""What a piece of work gets of the machine: images in a batch, and threads on a CPU."""

import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import psutil
import torch
from torch import Tensor, nn

LARGEST_BATCH = 64  # beyond it nothing is gained
# Memory of a step by that of the layers' outputs: two to five times as much in lrp/, nine with two passes of zennit
# (tests/benchmarks/relevance_memory.md).
KEPT_PER_OUTPUT = 10
SMALL_BATCH = 8  # so few images are attacked together without asking for the free memory
LIGHT = 1e9  # multiply-adds: a pass with fewer is over before several threads have found each other


def fitting_batch(network: nn.Module, pixels: Tensor) -> int:
    """A power of two, from what one image's layers put out and the memory that is free."""
    if len(pixels) <= SMALL_BATCH:
        return SMALL_BATCH
    leaves = [layer for layer in network.modules() if next(layer.children(), None) is None]
    size = sum(elements * bytes_each for _, elements, bytes_each in outputs(network, leaves, pixels[:1]))
    if pixels.is_cuda:
        free = torch.cuda.mem_get_info(pixels.device)[0]
    else:
        free = psutil.virtual_memory().available
    fits = free // 2 // (KEPT_PER_OUTPUT * size) or 1
    return min(LARGEST_BATCH, 2 ** (fits.bit_length() - 1))


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread of torch; the same sums in the same order on any number of cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def fitting_threads(network: nn.Module, image: Tensor) -> AbstractContextManager:
    """For work on one image (1, 3, H, W): one thread where a pass of `network` is light, else as many as torch has.

    In EfficientNet-Lite0 a layer takes a quarter of a millisecond for an image of 224x224. Two threads wait for each
    other so often that they took a third to a half more of the processor, and between nothing and a quarter less time.
    Who has set OMP_NUM_THREADS has chosen, and on a GPU it makes no difference: then nothing is changed.
    """
    if "OMP_NUM_THREADS" in os.environ or not image.is_cpu or multiply_adds(network, image) >= LIGHT:
        return nullcontext()
    return one_thread()


def multiply_adds(network: nn.Module, image: Tensor) -> int:
    """The multiplications that convolutions and linear layers need for one image (1, 3, H, W), each with a sum."""
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    of_one_output = {layer: layer.weight[0].numel() for layer in layers}
    return sum(elements * of_one_output[layer] for layer, elements, _ in outputs(network, layers, image))


def outputs(network: nn.Module, layers: Iterable[nn.Module], image: Tensor) -> list[tuple[nn.Module, int, int]]:
    """Those of a network's layers that one image (1, 3, H, W) passes: layer, elements it puts out, bytes of each."""
    seen: list[tuple[nn.Module, int, int]] = []
    hooks = [
        layer.register_forward_hook(lambda layer, _, out: seen.append((layer, out.numel(), out.element_size())))
        for layer in layers
    ]
    try:
        with torch.no_grad():
            network(image)
    finally:
        for hook in hooks:
            hook.remove()
    return seen
