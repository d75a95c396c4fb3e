"""Six attacks with one call signature: `attack(classifier, pixels, coarse_labels, fine_labels) -> AttackResult`.

At the coarse level LRPC (Algorithm 1), PGDC and DFC; at the fine level LRPF (Algorithm 1), PGDF and DFF.
"""

from c2f_lrp.attacks.base import Attack, AttackResult
from c2f_lrp.attacks.deepfool import DFC, DFF
from c2f_lrp.attacks.lrp_attack import LRPC, LRPF
from c2f_lrp.attacks.pgd import PGDC, PGDF

__all__ = ["DFC", "DFF", "LRPC", "LRPF", "PGDC", "PGDF", "Attack", "AttackResult"]
