"""Which engine computes relevance: ours, or zennit's as a peer."""

from typing import TYPE_CHECKING

from torch import nn

from c2f_lrp.lrp.engine import LRP
from c2f_lrp.lrp.rules import Rule

if TYPE_CHECKING:
    from c2f_lrp.lrp.zennit import ZennitLRP

BACKENDS = ("graph", "zennit")


def choose_lrp(
    classifier: nn.Module,
    init: str = "one_hot",
    bias: str = "absorb",
    backend: str = "graph",
    rule: str | Rule = "z+",
) -> "LRP | ZennitLRP":
    """Relevance of a classifier by `c2f_lrp.lrp.LRP` ("graph") or by `c2f_lrp.lrp.ZennitLRP` ("zennit").

    zennit is slower and knows z+ only; it is there to be compared with.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend is {backend!r}; choose one of {', '.join(BACKENDS)}")
    if backend == "graph":
        return LRP(classifier, init, bias, rule)
    if rule != "z+":
        raise ValueError(f"rule is {rule!r}; the zennit backend has z+ only")
    from c2f_lrp.lrp.zennit import ZennitLRP  # which loads torchvision: only for those who ask

    return ZennitLRP(classifier, init, bias)
