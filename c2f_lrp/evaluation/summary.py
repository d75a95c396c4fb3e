"""The lines of Tables I and II, from rows."""

import pandas as pd
import torch

from c2f_lrp.metrics import NORMS, bootstrap, fooling_ratio


def summarize(rows: pd.DataFrame) -> pd.DataFrame:
    """One line per setting, in the paper's measures: rho of eq. (10) and the fooling ratio in percent.

    Over the images classified correctly beforehand, fooled or not; `..._low` and `..._high` are the ends of the 95 %
    bootstrap interval over these images. The columns `..._as_printed` are over all images:
    Algorithm 1 as printed attacks also those that are wrong beforehand, steps first, and counts what it then finds.
    """
    lines = []
    for name, group in rows.groupby("setting", sort=False):
        attacked = group[group.correct]
        if attacked.empty:
            raise ValueError(f"{name}: none of the {len(group)} images is classified correctly, so none is attacked")
        line = {"setting": name} | group[["attack", "reading", "eps"]].iloc[0].to_dict()
        line |= {"images": len(group), "attacked": len(attacked)}
        line |= {measure: float(attacked[measure].mean()) for measure in NORMS}
        line["fooling_percent"] = 100 * fooling_ratio(torch.tensor(attacked.fooled.to_numpy()))
        for measure in NORMS:
            _, line[f"{measure}_low"], line[f"{measure}_high"] = bootstrap(attacked[measure])
        _, low, high = bootstrap(attacked.fooled)
        line |= {"fooling_percent_low": 100 * low, "fooling_percent_high": 100 * high}
        line["fooling_as_printed"] = 100 * fooling_ratio(torch.tensor(group.fooled.to_numpy()))
        line |= {f"{measure}_as_printed": float(group[measure].mean()) for measure in NORMS}
        line["mean_iterations"] = float(attacked.iterations.mean())
        lines.append(line)
    return pd.DataFrame(lines).set_index("setting")
