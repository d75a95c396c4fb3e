"""Equations (3)-(5): Layer-wise Relevance Propagation.

rules        eq. (3), eq. (4) and its alternatives, eq. (5): one object for each rule
operations   poolings, sums, concatenations: what has a rule but no weights
affine       layers with weights
graph        reading a network, by torch.fx
engine       LRP: heatmaps backwards, totals forwards
zennit       ZennitLRP: the peer, loaded when it is asked for (it loads torchvision, which takes longer than the rest)
choose       choose_lrp
"""

from typing import TYPE_CHECKING

from c2f_lrp.lrp.choose import BACKENDS, choose_lrp
from c2f_lrp.lrp.engine import LRP
from c2f_lrp.lrp.rules import BIASES, INITS, RULES, AlphaBeta, Epsilon, Gamma, Rule, Share, ZBeta, ZPlus

if TYPE_CHECKING:
    from c2f_lrp.lrp.zennit import ZennitLRP

__all__ = [
    "BACKENDS",
    "BIASES",
    "INITS",
    "LRP",
    "RULES",
    "AlphaBeta",
    "Epsilon",
    "Gamma",
    "Rule",
    "Share",
    "ZBeta",
    "ZPlus",
    "ZennitLRP",
    "choose_lrp",
]


def __getattr__(name: str):
    if name != "ZennitLRP":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    from c2f_lrp.lrp.zennit import ZennitLRP

    return ZennitLRP
