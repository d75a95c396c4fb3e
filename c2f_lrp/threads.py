"""How many of torch's threads a piece of work gets on a CPU."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn

LIGHT = 1e9  # multiply-adds: a pass with fewer is over before several threads have found each other


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
    counts: list[int] = []

    def count(module: nn.Module, seen, out: Tensor) -> None:
        counts.append(out.numel() * module.weight[0].numel())  # of one output

    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    hooks = [module.register_forward_hook(count) for module in layers]
    try:
        with torch.no_grad():
            network(image)
    finally:
        for hook in hooks:
            hook.remove()
    return sum(counts)
