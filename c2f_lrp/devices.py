"""What differs between a CPU and a GPU: how images best lie in memory, and how convolutions round."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


def fast_layout(tensor: Tensor) -> Tensor:
    """Images, or weights of a convolution, in the order of `fast_format`; other tensors are given back as they are."""
    return tensor.contiguous(memory_format=fast_format(tensor)) if tensor.ndim == 4 else tensor


def fast_format(tensor: Tensor) -> torch.memory_format:
    """The order of memory in which the tensor's device convolves fastest.

    CPUs: channels last. GPUs: channels first, for in float32 their depthwise convolutions are many times slower with
    channels last.
    """
    return torch.channels_last if tensor.is_cpu else torch.contiguous_format


@contextmanager
def whole_float32() -> Iterator[None]:
    """Convolutions on a GPU round as on a CPU while this holds; also a decorator.

    By default NVIDIA's GPUs round float32 inputs of convolutions to 10 bits ("TF32"). A gradient of a difference of two
    nearly equal totals, which is what eqs. (7) and (9) ask for, does not survive that. What the caller has set is put
    back. Autograd's backward pass must be inside too.
    """
    cudnn = torch.backends.cudnn
    # Until torch 2.8 one flag stood for all of cuDNN.
    owner, name, whole = (
        (cudnn.conv, "fp32_precision", "ieee") if hasattr(cudnn, "conv") else (cudnn, "allow_tf32", False)
    )
    before = getattr(owner, name)
    setattr(owner, name, whole)
    try:
        yield
    finally:
        setattr(owner, name, before)
