"""What a study's cell files say: figures, rules both ways, the report while cells are missing, and the map."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pages import EVIL, Tags
from studies import LEVELS, REGIME, cell, diagnosis, make_study

from dyme.comparison.findings import rules, write_map, write_report
from dyme.comparison.findings.folder import Folder
from dyme.comparison.findings.pairs import accuracy, contrast
from dyme.comparison.findings.write import figures
from dyme.comparison.statistics.paired import equivalence, holm, paired_t
from dyme.errors import DataError
from dyme.evaluation.advice import choice
from dyme.evaluation.regime import read_map


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = make_study(tmp_path_factory.mktemp("study"))
    write_report(out)
    return out


@pytest.fixture(scope="module")
def found(whole: Path) -> Any:
    return json.loads((whole / "study.json").read_text(encoding="utf-8"))


def pair_of(found: Any, a: str, b: str, block: int = 0) -> Any:
    return next(pair for pair in found["blocks"][block]["pairs"] if (pair["a"], pair["b"]) == (a, b))


# Figures


def test_differences_are_those_of_the_cells(whole: Path, found: Any) -> None:
    pair = pair_of(found, "dyme", "grpo")
    values = {
        arm: [accuracy(json.loads((whole / f"cells/primary-0.3-{arm}-{s}.json").read_text())) for s in range(1, 7)]
        for arm in ("dyme", "grpo")
    }
    expected = [a - b for a, b in zip(values["dyme"], values["grpo"], strict=True)]
    test = paired_t(expected)
    assert test and pair["differences"] == pytest.approx(expected) and pair["seeds"] == [1, 2, 3, 4, 5, 6]
    assert (pair["mean"], pair["t"], pair["freedom"], pair["p"]) == pytest.approx((test.mean, test.t, 5, test.p))
    assert pair["p_equal"] == equivalence(expected, 0.01) and pair["low"] < pair["mean"] < pair["high"]
    assert pair["p_sign_flip"] == 2 / 2**6 and pair["above"]["value"] == 1


def test_holm_covers_the_primary_pairs_alone(found: Any) -> None:
    roles = {(pair["a"], pair["b"]): pair for pair in found["blocks"][0]["pairs"]}
    primary = {key: pair["p"] for key, pair in roles.items() if pair["role"] == "primary"}
    assert {key: roles[key]["p_holm"] for key in primary} == holm(primary) and len(primary) == 2
    then = roles["dyme", "yoked"]
    assert (then["role"], then["tested"], "p_holm" in then) == ("then", True, False)
    assert [(pair["role"], pair["tested"]) for pair in found["blocks"][1]["pairs"]] == [("exploratory", False)] * 2


def test_then_is_tested_only_if_a_primary_difference_holds(tmp_path: Path) -> None:
    levels = {"dyme": 0.8, "grpo": 0.8, "two_stage": 0.8, "yoked": 0.6}
    found = figures(Folder.open(make_study(tmp_path, seeds=3, levels=levels, dose=False)))
    assert not pair_of(found, "dyme", "yoked")["tested"]
    assert "is not tested, as no primary difference holds" in found["sentences"][0]["text"]


def test_equal_cost_is_read_off_the_curves() -> None:
    ours, theirs = ({s: cell("x", arm, s, level) for s in (1, 2)} for arm, level in (("dyme", 0.8), ("grpo", 0.4)))
    for one in theirs.values():
        one["curve"] = [[32 * s, 256 * s, 9000 * s, 2800 * s, round(0.4 * s / 12, 3)] for s in range(1, 13)]  # twice the tokens
    pair = contrast(ours, theirs)
    assert pair and pair["at_equal"]["completions"]["mean"] == pytest.approx(0.4 * 23 / 24, abs=0.001), "means of the last two steps"
    tokens = pair["at_equal"]["tokens"]
    assert tokens["used"] == 12 * 5900 and tokens["mean"] == pytest.approx(0.8 - 0.4 * 6 / 12, abs=0.05)
    for one in theirs.values():
        one["curve"] = []
    pair = contrast(ours, theirs)
    assert pair and pair["at_equal"] == {}, "a method that never rolls out has no sampled accuracy"
    assert contrast(ours, {9: theirs[1]}) is None


def test_trends_use_every_seed_and_the_bases_strata(found: Any) -> None:
    by_stratum, by_noise = found["predictions"]
    assert by_noise["slope"]["value"] == pytest.approx(0.14, abs=0.05) and by_noise["holds"] is True and by_noise["slope"]["places"] == 3
    assert len(by_noise["points"]) == 6 + 2 * 4
    assert (by_stratum["along"], by_noise["along"]) == (["pass_at_64"], ["task.misread"])
    assert by_stratum["slope"]["places"] == 4 and by_stratum["slope"]["seeds"] == 6 and by_stratum["holds"] is False
    assert min(p["x"] for p in by_stratum["points"]) == pytest.approx(-3.5, abs=0.1), "one of 50 prompts solved, and half a prompt added"


def test_strata_by_another_k_are_named(tmp_path: Path) -> None:
    make_study(tmp_path, seeds=2, dose=False)
    file = tmp_path / "cells/base-0.3.json"
    base = json.loads(file.read_text())
    del base["diagnosis"]
    for k, one in enumerate(base["by_kind"].values()):
        one["pass_at_8"] = {"value": 0.1 * k, "n": 30}
    file.write_text(json.dumps(base))
    found = figures(Folder.open(tmp_path))
    assert found["predictions"][0]["along"] == ["pass_at_8"] and found["regimes"][0]["passed"] == "pass_at_8"
    assert any("log odds of the base's pass@8 by question type" in one["text"] for one in found["sentences"])


def test_trials_are_grouped_and_the_winner_is_marked_once(found: Any) -> None:
    (tuned,) = found["tuning"]
    rows = [(row["settings"]["train.learning_rate"], row["round"], row["mean"], row["won"]) for row in tuned["trials"]]
    assert rows == [(3e-3, 3, 0.75, False), (1e-3, 2, 0.8, True), (1e-3, 1, 0.7, False), (3e-4, 1, 0.6, False)]


def test_settings_of_one_condition_are_one_place_on_the_map(found: Any) -> None:
    assert [(r["name"], r["misread"], len(r["arms"])) for r in found["regimes"]] == [
        ("regime", 0.3, 4),
        ("misread 0", 0, 2),
        ("misread 0.5", 0.5, 2),
    ]
    first = found["regimes"][0]["arms"][0]
    assert first["label"] == "DyME" and first["over_base"]["mean"] == pytest.approx(first["accuracy"]["value"] - 0.2, abs=0.01)


def test_an_arm_on_the_map_has_the_seeds_of_all_blocks_and_no_second_name(tmp_path: Path) -> None:
    plan = json.loads((make_study(tmp_path, dose=False) / "plan.json").read_text())
    first = plan["blocks"]["primary"]
    some = {arm: {seed: first["cells"]["regime"]["dyme"][seed] for seed in ("1", "2")} for arm in ("dyme", "again")}
    plan["arms"]["again"] = plan["arms"]["dyme"] | {"label": "DyME by another name"}
    plan["blocks"]["later"] = first | {"arms": ["dyme", "again"], "seeds": [1, 2], "cells": {"regime": some}, "compare": [], "then": []}
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    found = figures(Folder.open(tmp_path))
    (place,) = found["regimes"]
    assert [row["arm"] for row in place["arms"]].count("dyme") == 1 and "again" not in [row["arm"] for row in place["arms"]]
    assert place["arms"][0]["arm"] == "dyme" and place["arms"][0]["accuracy"]["seeds"] == 6
    assert found["blocks"][1]["pairs"] == [], "a training is not compared with itself"


# Rules, both ways


def study(pair: dict[str, Any] | None = None, b: str = "yoked_random", **more: Any) -> Any:
    plain = {
        "a": "a", "b": "b", "labels": ["DyME", "rival"], "seeds": [1, 2, 3], "mean": 0.02, "low": 0.01, "high": 0.03,
        "p": 0.01, "p_equal": 0.9, "tested": True, "at_equal": {},
    }  # fmt: skip
    arms = {"a": {"method": "dyme", "settings": {}}, "b": {"method": b, "settings": {}}}
    return {"arms": arms, "blocks": [{"pairs": [plain | (pair or {})]}], **more}


TIE = {"mean": 0.001, "low": -0.004, "high": 0.006, "p": 0.7, "p_equal": 0.01}
OPEN = {"mean": 0.01, "low": -0.01, "high": 0.03, "p": 0.3, "p_equal": 0.5}
AHEAD = {"mean": 0.2, "low": 0.15, "high": 0.25}


def slope(on: str, holds: bool) -> Any:
    return {"on": on, "along": [on], "labels": ["DyME", "GRPO"], "holds": holds, "slope": {"value": 0.1, "low": 0.05, "high": 0.15}}


def side(normalize: str, low: float) -> dict[str, Any]:
    return {"label": f"DyME {normalize}", "normalize": normalize, "mean": low + 0.01, "low": low, "high": low + 0.02}


@pytest.mark.parametrize(
    ("rule", "figures_of", "holds", "words"),
    [
        (rules.switch, study(TIE), True, "not what helps; mixing is"),
        (rules.switch, study({"p": 0.01}), False, "The choice of prompts helps: DyME − rival +2.0 [+1.0, +3.0] points over 3 seeds"),
        (rules.switch, study({"mean": -0.02, "low": -0.03, "high": -0.01}), True, "a random one does better"),
        (rules.switch, study(OPEN), None, "stays open"),
        (rules.switch, study({**OPEN, "tested": False}), None, "is not tested"),
        (rules.advantage, study({"low": -0.01, "high": 0.009}, "two_stage"), True, "No advantage over a tuned two-stage"),
        (rules.advantage, study(AHEAD, "two_stage"), False, "ahead of a tuned two-stage"),
        (rules.advantage, study(OPEN, "two_stage"), None, "neither shown nor excluded"),
        (rules.weak_bases, study(predictions=[slope("pass_at_64", False)]), True, "“for weak bases” is not supported"),
        (rules.weak_bases, study(predictions=[slope("pass_at_64", True)]), False, "“for weak bases” is supported"),
        (rules.pseudo_traces, study(predictions=[slope("task.misread", False)]), True, "“robust to pseudo traces” is not supported"),
        (rules.pseudo_traces, study(predictions=[slope("task.misread", True)]), False, "is supported"),
        (rules.equal_reward, study({**OPEN, "high": 0.005}, "grpo"), True, "the earlier lead was the thinking reward"),
        (rules.equal_reward, study(OPEN, "grpo"), None, "neither shown nor excluded"),
        (rules.equal_reward, study(AHEAD, "grpo"), False, "does not come from the thinking reward"),
        (rules.averaging, study(averaging=[side("term", 0.01), side("all", -0.01)]), True, "The lead is HPT's averaging"),
        (rules.averaging, study(averaging=[side("term", 0.01), side("all", 0.01)]), False, "does not hang on HPT's averaging"),
        (rules.averaging, study(averaging=[side("term", -0.02), side("all", -0.01)]), None, "Under neither averaging"),
        (rules.other_rules, study(rivals=[side("x", -0.05), side("y", 0.1)]), True, "in DyME's place, as at or above it: DyME x +4.0"),
        (rules.other_rules, study(rivals=[side("x", 0.05), side("y", 0.1)]), False, "the closest, DyME x, is −6.0"),
        (rules.compute, study({**AHEAD, "at_equal": {"tokens": OPEN | {"mean": 0.0}}}, "grpo"), True, "not per unit of compute"),
        (rules.compute, study({**AHEAD, "at_equal": {"tokens": OPEN}}, "grpo"), None, "per unit of compute stays open"),
        (rules.compute, study({**AHEAD, "at_equal": {"tokens": AHEAD}}, "grpo"), False, "holds per unit of compute"),
    ],
)  # fmt: skip
def test_a_rule(rule: Any, figures_of: Any, holds: bool | None, words: str) -> None:
    said = rule(figures_of)
    assert said.holds is holds and words in said.text


def test_rules_are_silent_about_what_is_not_there() -> None:
    nothing = {"arms": {}, "blocks": [], "predictions": [], "averaging": [], "rivals": []}
    assert rules.sentences(nothing) == []
    own = study(AHEAD, "grpo")
    own["arms"]["a"]["settings"] = {"reward.thinking_weight": 1.0}
    assert rules.equal_reward(own) is None, "their rewards differ"
    assert rules.compute(study({**AHEAD, "low": -0.1}, "grpo")) is None, "there is no gain at equal prompts"


# The report


def test_the_page_and_the_table(whole: Path) -> None:
    text, table = ((whole / f"study.{kind}").read_text(encoding="utf-8") for kind in ("html", "md"))
    tags = Tags(text)
    assert len(tags.ids) == len(set(tags.ids)) and tags.unlabelled == [] and len(text) < 5_000_000
    for words in ("Does the switch help?", "What this means", "Predicted trends", "Map of regimes", "opened train.learning_rate = 0.003"):
        assert words in text
    assert "Not there yet" not in text and "Not there yet" not in table
    assert text.count("<svg viewBox") == len(tags.names) - len([n for n in tags.names if n != "svg"]) >= 8
    assert "DyME: mean" in text and "6 seeds" in text, "plots in words for a screen reader"
    assert "| DyME − two-stage | regime | primary | 6 |" in table and "| D2 | DyME − two-stage | task.misread | rises |" in table


def test_the_report_of_an_unfinished_study_says_what_is_missing(tmp_path: Path) -> None:
    make_study(tmp_path, left_out=[("two_stage", 2), ("two_stage", 3), ("two_stage", 6)], dose=False)
    write_report(tmp_path)
    assert "- primary, regime: two-stage (seeds 2-3, 6)" in (tmp_path / "study.md").read_text(encoding="utf-8")
    for file in (tmp_path / "cells").glob("*.json"):
        file.unlink()
    (tmp_path / "choices.json").unlink()
    (tmp_path / "cells/half.json").write_text('{"metrics":')
    (tmp_path / "cells/primary-0.3-dyme-1.json").write_text('{"metrics": {}}')
    assert "No cell of this block is done" in write_report(tmp_path).read_text(encoding="utf-8")
    assert "- primary, regime: the untrained model" in (tmp_path / "study.md").read_text(encoding="utf-8")


def test_an_arm_that_waits_for_its_tuning_is_named(tmp_path: Path) -> None:
    make_study(tmp_path, seeds=2, dose=False)
    plan = json.loads((tmp_path / "plan.json").read_text())
    del plan["blocks"]["primary"]["cells"]["regime"]["yoked"]
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    choices = {"dyme": {"trials": [{"settings": {"x": 1}, "seed": 100, "budget": "9prompts", "accuracy": None}], "winner": None}}
    (tmp_path / "choices.json").write_text(json.dumps(choices))
    lines = list(Folder.open(tmp_path).missing())
    tuned, yoked = lines
    assert (
        tuned == "tuning: DyME (1 of the 1 trials that are known so far)"
        and yoked == "primary, regime: yoked random (seeds 1-2, until tuned)"
    )
    write_report(tmp_path)


def test_one_seed_has_no_test(tmp_path: Path) -> None:
    write_report(make_study(tmp_path, seeds=1, dose=False))
    pair = pair_of(json.loads((tmp_path / "study.json").read_text()), "dyme", "grpo")
    assert (pair["t"], pair["p"], pair["p_sign_flip"], pair["p_equal"], pair["tested"]) == (None, None, None, None, True)
    assert pair["low"] < pair["high"], "items alone"


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    text = write_report(make_study(tmp_path, seeds=2, dose=False, label=EVIL)).read_text(encoding="utf-8")
    assert EVIL not in text and "img" not in Tags(text).names


@pytest.mark.parametrize("content", [None, "{", "[]", '{"blocks": {}}'])
def test_a_folder_without_a_plan_is_refused(tmp_path: Path, content: str | None) -> None:
    if content:
        (tmp_path / "plan.json").write_text(content)
    with pytest.raises(DataError, match="is not a study"):
        write_report(tmp_path)


# The map


def test_the_map_is_what_diagnose_reads(whole: Path, tmp_path: Path) -> None:
    write_map(whole, tmp_path / "map.json")
    known = read_map(tmp_path / "map.json")
    assert known and [(one.name, one.k, one.base) for one in known.measured][0] == ("regime", 8, pytest.approx(0.2, abs=0.05))
    case = diagnosis() | {"k": 8}
    (line,) = choice(known, case, "charts")
    assert "By the map DyME was best" in line and "within noise of yoked random" in line and "A made-up study" in line
    assert "does not reach this case" in choice(known, case | {"pictures": False})[0]


def test_of_methods_that_are_level_the_map_names_that_with_most_seeds(tmp_path: Path) -> None:
    """A rule that a few seeds put above DyME by less than their noise is named beside it, as the report recommends it beside it."""
    out = make_study(tmp_path, levels=LEVELS | {"yoked": LEVELS["dyme"] + 0.005}, left_out=[("yoked", 5), ("yoked", 6)], dose=False)
    plan = json.loads((out / "plan.json").read_text())
    plan["arms"]["yoked"] |= {"method": "dyme", "label": "soft"}
    (out / "plan.json").write_text(json.dumps(plan))
    for file in (out / "cells").glob("*yoked*.json"):
        one = json.loads(file.read_text())
        one["settings"]["method.tau"] = 2.0
        file.write_text(json.dumps(one))
    write_report(out)
    found = json.loads((out / "study.json").read_text())
    assert [one["label"] for one in found["regimes"][0]["arms"]][:2] == ["DyME", "soft"]
    assert {one["label"] for one in found["rivals"]} == {"GRPO", "two-stage", "soft"}
    assert any(one["text"].startswith("Recommend in DyME's place, as at or above it: soft +") for one in found["sentences"])
    write_map(out, tmp_path / "map.json")
    (line,) = choice(read_map(tmp_path / "map.json"), diagnosis() | {"k": 8}, "charts")
    assert "By the map DyME was as good as any" in line and "within noise of soft" in line


def test_a_condition_has_the_noise_of_an_arm_that_reads_traces(tmp_path: Path) -> None:
    out = make_study(tmp_path, seeds=2, dose=False)
    for file in (out / "cells").glob("*dyme*.json"):
        one = json.loads(file.read_text())
        one["config"]["task"]["misread"] = None
        file.write_text(json.dumps(one))
    write_report(out)
    assert json.loads((out / "study.json").read_text())["regimes"][0]["misread"] == 0.3


def test_no_map_without_a_diagnosed_base(tmp_path: Path) -> None:
    out = make_study(tmp_path / "s", seeds=2, dose=False)
    (out / "cells/base-0.3.json").unlink()
    with pytest.raises(DataError, match="no map to write"):
        write_map(out, tmp_path / "map.json")
    assert not (tmp_path / "map.json").exists() and REGIME["task.misread"] == 0.3
