"""The page of a study: what it draws of settings that a block varies, and how it writes numbers."""

from __future__ import annotations

from typing import Any

import pytest

from dyme.report.plots import PALETTE, Line, Strip, colours_apart, scatter, strips
from dyme.report.study import axes, p_value, percent, points, regime_plots, settings, settings_plots


def arm(name: str, condition: str, method: str = "dyme") -> dict[str, Any]:
    return {"arm": name, "label": name, "condition": condition, "method": method}


def test_settings_that_a_block_varies_are_axes() -> None:
    conditions = [{"name": f"k{k}", "settings": {"rollout.num_generations": k, "task.misread": 0.3}} for k in (2, 4)]
    block = {"conditions": conditions, "arms": [arm("dyme", "k2"), arm("dyme", "k4")]}
    study = {"arms": {"dyme": {"settings": {"train.learning_rate": 1e-3}}}}
    assert {name: [x for _, x in found] for name, found in axes(block, study).items()} == {"rollout.num_generations": [2.0, 4.0]}
    flipped = {"conditions": [{"name": "", "settings": {}}], "arms": [arm("none", ""), arm("some", "")]}
    own = {"arms": {name: {"settings": {"supervision.flipped": x, "task.traces": "low"}} for name, x in (("none", 0.0), ("some", 0.2))}}
    assert list(axes(flipped, own)) == ["supervision.flipped"], "a checker's reliability is a setting of the arms"


def test_a_line_over_a_setting_joins_arms_that_differ_in_it_alone() -> None:
    def drawn(rates: tuple[float, float]) -> list[str]:
        own = {name: {"method.sft_share": x, "train.learning_rate": rate} for name, x, rate in zip("ab", (0.5, 0.75), rates, strict=True)}
        figures = {"metrics": {"think_accuracy": {"value": 0.8, "low": 0.7, "high": 0.9}}}
        block = {"conditions": [{"name": "", "settings": {}}], "arms": [arm(name, "") | figures | {"settings": own[name]} for name in "ab"]}
        study = {"arms": {name: {"settings": own[name]} for name in "ab"}}
        return [plot.caption for plot in settings_plots(0, block, study, {"a": "c1", "b": "c2"})]

    assert drawn((1e-3, 1e-3)) == ["Accuracy over method.sft_share"]
    assert drawn((1e-3, 4e-3)) == []


def test_plots_speak_their_figures() -> None:
    plot = strips(
        "a", "Gains", [Strip("DyME", "c1", {"1": 0.02, "2": 0.04}, 0.03, 0.01, 0.05), Strip("one", "c2", {"1": 0.5}, 0.5)], points=True
    )
    assert "DyME: mean 3.0 points, interval 1.0 to 5.0, 2 seeds; one: mean 50.0 points, 1 seeds" in plot.svg
    drawn = scatter("b", "Over K", [Line("DyME", [0.1, 0.2], "c1", x=[2, 4])], xlabel="K", fit=(0.05, 0.15))
    assert "DyME: +10.0 points at 2, +20.0 points at 4" in drawn.svg and drawn.legend == ()
    assert strips("a", "Gains", [Strip("x", "c1", {"1": 0.1}, 0.1), Strip("y", "c1", {"2": 0.1}, 0.1)], paired=True).svg.startswith("<svg")


def test_a_map_of_one_condition_and_no_strata_has_no_plot() -> None:
    gain = {"mean": 0.1, "low": None, "high": None}
    rows = [{"label": "DyME", "over_base": gain, "over_rival": gain, "strata": {}}]
    one = {"arms": rows, "passed": "", "passed_by_kind": {}, "settings": {}}
    assert regime_plots([one | {"misread": 0.3}], {"DyME": "c1"}) == []
    other = [one | {"misread": x, "settings": {"task.misread": x}} for x in (0.0, 0.3)]
    assert [plot.caption for plot in regime_plots(other, {"DyME": "c1"})] == [
        "Gain over the base, in points, over misread values in the traces",
        "Gain over the best rival, in points, over misread values in the traces",
    ]
    weak = one | {"misread": 0.3, "settings": {"model.path": "runs/weak"}}
    assert [plot.svg for plot in regime_plots([*other, weak], {"DyME": "c1"})] == [plot.svg for plot in regime_plots(other, {"DyME": "c1"})]
    assert regime_plots([other[1], weak], {"DyME": "c1"}) == [], "another base is not another noise"


def test_the_map_has_as_many_arms_as_there_are_colours() -> None:
    gain = {"mean": 0.1, "low": None, "high": None}
    rows = [{"label": f"arm {k}", "over_base": gain, "over_rival": gain, "strata": {}} for k in range(10)]
    found = [
        {"arms": arms, "passed": "", "passed_by_kind": {}, "misread": x, "settings": {"task.misread": x}}
        for x, arms in ((0.3, rows), (0.0, rows[9:]))
    ]
    plot, _ = regime_plots(found, {row["label"]: PALETTE[k % 8] for k, row in enumerate(rows)})
    assert plot.caption.endswith("; 8 of 10 arms") and [label for label, _ in plot.legend][-1] == "arm 9"


def test_arms_of_a_block_differ_in_colour() -> None:
    groups = [[f"arm {k}" for k in range(8)], ["arm 0", *(f"rule {k}" for k in range(7))], ["arm 0", "rule 3", "arm 5", "new"]]
    found = colours_apart(groups)
    assert all(len({found[name] for name in group}) == len(group) for group in groups)
    assert set(colours_apart([[str(k) for k in range(20)]])) == {str(k) for k in range(20)}, "colours come again when there are no more"


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (percent({"value": 0.5, "low": 0.4, "high": 0.6, "n": 9}), "50.0 [40.0, 60.0]"),
        (percent({"value": 0.0, "low": 0, "high": 1, "n": 0}), "–"),
        (percent(None), "–"),
        (points({"mean": -0.012, "low": -0.02, "high": 0.001}), "−1.2 [−2.0, +0.1]"),
        (points({"mean": 0.1, "low": None}), "+10.0"),
        (points(None), "–"),
        (p_value(0.0004), "< 0.001"),
        (p_value(None), "–"),
        (settings({"train.learning_rate": 0.0003, "x": "code"}), "train.learning_rate = 0.0003, x = code"),
    ],
)  # fmt: skip
def test_numbers_as_shown(shown: str, expected: str) -> None:
    assert shown == expected
