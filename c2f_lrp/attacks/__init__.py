"""Attacks with one call signature: `attack(classifier, pixels, coarse_labels, fine_labels) -> AttackResult`.

At the coarse level LRPC (Algorithm 1), PGDC and DFC; at the fine level LRPF (Algorithm 1), PGDF and DFF. MarginC and
MarginF are not the paper's: margin.py is the example of how an attack is added, conformance.py what it must keep to.
`preflight` says what speaks against believing an attack.
"""

from c2f_lrp.attacks.base import Attack, AttackResult
from c2f_lrp.attacks.deepfool import DFC, DFF
from c2f_lrp.attacks.lrp_attack import LRPC, LRPF
from c2f_lrp.attacks.margin import MarginC, MarginF
from c2f_lrp.attacks.pgd import PGDC, PGDF
from c2f_lrp.attacks.preflight import preflight

__all__ = [
    "DFC",
    "DFF",
    "LRPC",
    "LRPF",
    "MarginC",
    "MarginF",
    "PGDC",
    "PGDF",
    "Attack",
    "AttackResult",
    "preflight",
]
