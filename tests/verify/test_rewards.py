"""A user's rewards: what joins the shaped reward, what is left out for a whole group, and what happens to functions that fail."""

from __future__ import annotations

import asyncio
import functools
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest

from dyme import plugins
from dyme.config import Config, RewardConfig
from dyme.errors import ConfigError, RunError
from dyme.methods.advantages import advantages
from dyme.tracking.metrics import completion_figures
from dyme.types import NO_VALUE, Completion, Group, Sample
from dyme.verify import rewards as module
from dyme.verify.rewards import Asked, Rewards, check_first, find_rewards
from dyme.verify.rules import Rules, verify_group

HERE = Path(__file__).name
SAMPLES = [Sample(id=str(k), question="How many?", answer=str(k), rationale="one two three") for k in range(3)]
TEXTS = ("one two three Answer: 1", "I count four of them Answer: 4", "none at all", "one two three four five Answer: 1")


def groups(config: RewardConfig) -> list[Group]:
    completions = tuple(Completion(text=text, token_ids=(1,)) for text in TEXTS)
    rules = Rules(marker="Answer:", tolerance=0.0, reward=config)
    return [verify_group(Group(sample=sample, completions=completions), rules) for sample in SAMPLES]


def earned(functions: dict[str, Any], **settings: Any) -> tuple[list[Group], Rewards]:
    with plugins.given(Config(reward=RewardConfig(**settings)), rewards=functions) as config, Rewards(config.reward) as rewards:
        return rewards.earn(groups(config.reward)), rewards


def length(completion: Any, sample: Any, verdict: Any) -> float:
    return len(verdict.thinking.split())


def raising(completion: Any, sample: Any, verdict: Any) -> float:
    return float(verdict.answer or "0") if sample.id != "1" else float("many")


RAISED = raising.__code__.co_firstlineno + 1


def test_a_reward_joins_the_shaped_one_by_its_weight() -> None:
    plain = groups(RewardConfig())
    found, _ = earned({"length": length, "one": lambda c, s, v: 1}, weights=(-0.5, 0.0))
    for group, before in zip(found, plain, strict=True):
        assert group.left_out == {}
        for verdict, own in zip(group.verdicts, before.verdicts, strict=True):
            words = len(own.thinking.split())
            assert verdict.rewards == {**own.rewards, "length": words, "one": 1.0}
            assert verdict.reward == own.reward - 0.5 * words
            assert verdict.correct == own.correct


def test_without_rewards_nothing_changes() -> None:
    before = groups(RewardConfig())
    found = Rewards(RewardConfig()).earn(before)
    assert all(one is own for one, own in zip(found, before, strict=True))


@pytest.mark.parametrize("value", [1, True, numpy.float32(1), numpy.array(1.0), numpy.int64(1)])
def test_numbers_of_any_kind_are_read(value: Any) -> None:
    [group, *_], _ = earned({"one": lambda c, s, v: value})
    assert [verdict.rewards["one"] for verdict in group.verdicts] == [1.0] * 4


def test_none_for_one_completion_leaves_the_part_out_for_the_group_alike() -> None:
    found, rewards = earned({"some": lambda c, s, v: None if s.id == "1" and not v.parsed else 5.0}, weights=(2.0,))
    plain = groups(RewardConfig())
    assert [group.left_out for group in found] == [{}, {"some": NO_VALUE}, {}]
    assert found[1].verdicts == plain[1].verdicts, "as if there were no such reward"
    objective = Config().objective
    assert advantages([v.reward for v in found[1].verdicts], objective) == advantages([v.reward for v in plain[1].verdicts], objective)
    assert all(verdict.reward == own.reward + 10 for verdict, own in zip(found[0].verdicts, plain[0].verdicts, strict=True))
    figures = completion_figures(found)
    assert (figures["rewards/some/mean"], figures["rewards/some/left_out"], figures["rewards/some/failed"]) == (5.0, 1.0, 0.0)
    said: list[str] = []
    rewards.tell(found, said.append)
    assert said == [], "no value is no failure"


def nothing(completion: Any, sample: Any, verdict: Any) -> None:
    if sample.id == "1":
        time.sleep(60)


async def never(completion: Any, sample: Any, verdict: Any) -> float:
    if sample.id == "1":
        await asyncio.sleep(60)
    return 1.0


@pytest.mark.parametrize(
    ("function", "line", "words"),
    [
        (raising, RAISED, "ValueError: could not convert string to float: 'many'"),
        (lambda c, s, v: math.nan if s.id == "1" else 1.0, 0, "returned nan, which is no finite number"),
        (lambda c, s, v: math.inf if s.id == "1" else 1.0, 0, "returned inf, which is no finite number"),
        (lambda c, s, v: "high" if s.id == "1" else 1.0, 0, "returned 'high', which is no finite number"),
        (lambda c, s, v: numpy.ones(2) if s.id == "1" else 1.0, 0, "which is no number (TypeError)"),
        (lambda c, s, v: exit("no") if s.id == "1" else 1.0, 0, "SystemExit: no"),
        (lambda c, s, v: nothing(c, s, v) or 1.0, nothing.__code__.co_firstlineno + 2, "no answer within 0.3 s (reward.timeout_seconds)"),
        (never, never.__code__.co_firstlineno + 2, "no answer within 0.3 s (reward.timeout_seconds)"),
    ],
    ids=["error", "nan", "inf", "text", "array", "exit", "hang", "async hang"],
)
def test_a_failure_is_left_out_told_once_with_its_line_and_counted(function: Callable[..., Any], line: int, words: str) -> None:
    found, rewards = earned({"odd": function, "length": length}, timeout_seconds=0.3)
    place = f"{HERE}, line {line or function.__code__.co_firstlineno}"
    assert [bool(group.left_out) for group in found] == [False, True, False]
    assert found[1].left_out["odd"].startswith(place) and words in found[1].left_out["odd"]
    assert all("odd" not in verdict.rewards and "length" in verdict.rewards for verdict in found[1].verdicts)
    figures = completion_figures(found)
    assert (figures["rewards/odd/failed"], figures["rewards/odd/left_out"], figures["rewards/length/failed"]) == (1.0, 0.0, 0.0)
    said: list[str] = []
    rewards.tell(found, said.append)
    rewards.tell(found, said.append)
    assert len(said) == 1 and said[0].startswith(f"reward odd: {place}") and "\n" not in said[0]
    check_first([rewards.asked(found)], "runs/x")


def test_a_function_that_always_fails_ends_the_run_whoever_asks_it() -> None:
    found, rewards = earned({"odd": lambda c, s, v: 1 / 0, "length": length})
    counts = rewards.asked(found)
    assert counts["reward odd"].calls == counts["reward odd"].failures == 12
    with pytest.raises(RunError, match=rf"^reward odd failed each of 12 times in the first step: {HERE}, line \d+: ZeroDivisionError: "):
        check_first([counts], "runs/x")
    check_first([counts, {**counts, "reward odd": Asked(4, 3, "x")}], "runs/x")  # another process had an answer
    with pytest.raises(RunError, match="of 16 times .*: dyme train --resume runs/x$"):
        check_first([counts, {**counts, "reward odd": Asked(4, 4, "x")}], "runs/x")


def test_async_rewards_run_together_up_to_a_limit_and_stay_in_order() -> None:
    running = most = 0

    async def judge(completion: Completion, sample: Sample, verdict: Any) -> float:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.05 if sample.id == "0" else 0.01)  # the first to be asked is the last to answer
        running -= 1
        return float(sample.id) + len(completion.text)

    started = time.perf_counter()
    found, _ = earned({"judge": judge, "partial": functools.partial(judge)}, concurrency=5)
    assert time.perf_counter() - started < 0.05 * 24 / 2
    assert most == 5
    for group in found:
        for name in ("judge", "partial"):
            assert [v.rewards[name] for v in group.verdicts] == [float(group.sample.id) + len(text) for text in TEXTS]


def test_a_client_that_a_function_keeps_serves_in_every_step() -> None:
    loops = set()

    async def judge(completion: Any, sample: Any, verdict: Any) -> float:
        loops.add(asyncio.get_running_loop())
        return 1.0

    with plugins.given(Config(), rewards={"judge": judge}) as config, Rewards(config.reward) as rewards:
        for _ in range(2):
            rewards.earn(groups(config.reward))
    assert len(loops) == 1 and not loops.pop().is_running()


def test_an_async_function_that_blocks_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_GRACE", 0.1)

    async def blocking(completion: Any, sample: Any, verdict: Any) -> float:
        time.sleep(0.5)
        return 1.0

    with pytest.raises(RunError, match=rf"reward blocking \({HERE}, line \d+\) blocks its event loop; await what takes time"):
        earned({"blocking": blocking}, timeout_seconds=0.1)


def test_names_of_functions_are_found_or_refused_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def brief(completion, sample, verdict):\n    return 1.0\n\ndef text(completion):\n    return 1.0\n\nNUMBER = 3\n")
    assert find_rewards(RewardConfig(functions=(f"{file}:brief",)))["brief"](None, None, None) == 1.0  # type: ignore[arg-type]
    for name, words in {
        f"{file}:text": r"mine.py:text \(mine.py, line 4\) cannot be called as a function \(completion, sample, verdict\) is: too many",
        f"{file}:NUMBER": r"mine.py:NUMBER is 3, and a function \(completion, sample, verdict\) is needed",
        f"{file}:absent": "has no 'absent'", f"{tmp_path}/no.py:brief": "no such file", "brief": "'brief' is not known",
    }.items():  # fmt: skip
        with pytest.raises(ConfigError, match=f"^reward.functions: .*{words}"):
            find_rewards(RewardConfig(functions=(name,)))
    with pytest.raises(ConfigError, match="reward.weights are those of reward.functions, and there are none"):
        find_rewards(RewardConfig(weights=(1.0,)))
    for wrong in ([length], {"mine.py:brief": length}, {"": length}):
        with pytest.raises(ConfigError, match="rewards must be named"), plugins.given(Config(), rewards=wrong):  # type: ignore[arg-type]
            pass


def test_names_given_in_python_stand_for_their_functions_within_alone() -> None:
    with plugins.given(Config(), rewards={"length": length}) as config:
        assert (config.reward.functions, find_rewards(config.reward)) == (("length",), {"length": length})
    with pytest.raises(ConfigError, match="or give the object itself in Python, as the run had it"):
        find_rewards(config.reward)
