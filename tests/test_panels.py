"""The image of a figure and its panels."""

import dataclasses
import types

import matplotlib.pyplot as plt
import pytest
import torch
from networks import sixteen_images

from c2f_lrp import panels, plotting
from c2f_lrp.attacks import DFC, DFF


@pytest.fixture
def images(clf):
    return sixteen_images(clf)


class Fools:
    """In place of an attack: fools the images of these names."""

    level = "coarse"

    def __init__(self, images, names):
        self.pixels = images.pixels[[images.names.index(name) for name in names]]

    def __call__(self, classifier, pixels, coarse, fine):
        fooled = [any(torch.equal(x, y) for y in self.pixels) for x in pixels]
        return types.SimpleNamespace(fooled=torch.tensor(fooled))


def test_the_image_of_a_figure_is_chosen_by_the_rule(clf, images):
    scores = clf.coarse(images.pixels).softmax(1).detach()
    pairs = [tuple(pair) for pair in scores.argsort(1, descending=True)[:, :2].tolist()]
    org, adv = max(pairs, key=pairs[2:].count)  # the first two images are misclassified
    rows = [row for row in range(2, 16) if pairs[row] == (org, adv)]
    rows.sort(key=lambda row: -scores[row, org])
    assert len(rows) > 3
    secondary = torch.full((16,), org)
    secondary[rows[2]] = adv  # an object of the runner-up's class comes before a higher score
    images = dataclasses.replace(images, secondary_coarse=secondary)
    first, second, third, last = (images.names[row] for row in [rows[2], rows[0], rows[1], rows[-1]])
    names = (clf.hierarchy.coarse_names[org], clf.hierarchy.coarse_names[adv])

    def chosen(*fooled, tried=16):
        attacks = {str(i): Fools(images, each) for i, each in enumerate(fooled)}
        row, other, fooled_by, of = panels.choose_images(clf, images, *names, attacks, tried)
        order = [rows[2], *(row for row in rows if row != rows[2])][:tried]
        successes = [sum(images.names[row] in some for some in fooled) for row in order]
        assert other == order[successes.index(min(successes))]  # the first of those that fewest fool
        assert of == min(tried, len(rows))
        return images.names[row], list(fooled_by.values())

    assert chosen([]) == (first, [0])
    assert chosen([second, third], [third]) == (third, [2, 1])
    assert chosen([last, second], [last]) == (last, [2, 1])
    assert chosen([last, second], [last], tried=2) == (second, [1, 0])
    with pytest.raises(ValueError, match="none of 16 images is classified as no class with runner-up"):
        panels.choose_images(clf, images, "no class", names[1], {"a": Fools(images, [])})


@pytest.mark.parametrize("attack", [DFC(iterations=2), DFF(iterations=2)])
def test_panels_show_before_and_after(clf, images, attack):
    several = (torch.tensor(clf.hierarchy.n_fine)[images.coarse] > 1).nonzero().flatten()
    row = several[several > 1][0]
    columns, org, adv = panels.panels(
        clf, images.pixels[row], images.coarse[row].item(), images.fine[row].item(), {"DF": attack}
    )
    assert [panel.title for panel in columns] == ["before", "DF"] and org != adv
    assert not columns[0].perturbation.any()
    assert columns[0].score_org >= columns[0].score_adv
    assert torch.equal(columns[1].pixels, images.pixels[row] + columns[1].perturbation)
    total = columns[0].relevance_org.clamp(min=0).sum().item()
    assert columns[0].norm_org == pytest.approx(total, rel=1e-9)
    with pytest.raises(ValueError, match="one level"):
        panels.panels(clf, images.pixels[row], 0, 0, {"a": DFC(), "b": DFF()})


def test_a_heatmap_says_both_norms_and_its_labels_score():
    """As the paper's figures do: the norms by their definition, entry by entry, under the heatmap that they are of."""
    org = torch.tensor([[[2.0, -0.5]], [[0.25, 0.0]], [[-0.125, 1.0]]])
    adv = -2 * org
    column = panels.Panel(
        "before", torch.full((3, 1, 2), 100.0), torch.zeros(3, 1, 2), org, adv, 3.25, 1.25, 0.75, 0.125, 0, 0, 0.75, 0.5
    )
    assert column.negative_norms == (0.625, 6.5)
    figure = plotting.attack_figure([column], "vehicle", "clothes", ["vehicle / truck"])
    rows = {axes.get_ylabel().replace("\n", " "): axes.get_xlabel().split() for axes in figure.axes}
    assert rows["relevance of vehicle"] == ["‖R⁺‖", "3.25", "‖R⁻‖", "0.62", "score", "0.75"]
    assert rows["relevance of clothes"] == ["‖R⁺‖", "1.25", "‖R⁻‖", "6.5", "score", "0.12"]
    plt.close(figure)
