"""Supervision in the loop: only what was routed is asked about, failures are data, and what comes back is trained on."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from forked import Child
from llm_server import LLMServer
from routing import asked
from runs import ENVIRONMENT, SMALL, lines, recipe, small, start

from dyme.config import Config
from dyme.errors import ConfigError, SupervisionError
from dyme.methods.routes import settle
from dyme.model.policy import Policy
from dyme.recipe import build
from dyme.supervise.build import TRIAL, build_supervisor
from dyme.supervise.local.checker import LocalChecker
from dyme.supervise.roles import Template
from dyme.supervise.supervisor import Supervisor
from dyme.tasks.rules import rules_of
from dyme.tracking.metrics import figures
from dyme.tracking.run_folder import RunFolder
from dyme.training.loop import train
from dyme.types import Assessment, Completion, Fact, Group, Route, Sample
from dyme.verify.rules import verify_group

FACTS = (Fact("fig", "82"), Fact("oat", "13"), Fact("ham", "47"))
SAMPLE = Sample(id="s", question="How much larger is fig than oat?", answer="69", facts=FACTS, rationale="I see fig at 80", kind="diff")
RIGHT = "fig 82, oat 13, 82 - 13 = 69. Answer: 69"
WRONG = "fig 85, oat 13, 85 - 13 = 72. Answer: 72"
UNPARSED = "fig 82, oat 13"


class Fake:
    """A checker and refiner that remembers what it was asked, and fails as often as it is told."""

    def __init__(self, failures: int = 0, text: str = "Observation: fig 82, oat 13.", *, passing: bool = True) -> None:
        self.failures, self.text, self.passing = failures, text, passing
        self.checked: list[list[str]] = []
        self.refined: list[Template | None] = []

    def _fail(self) -> None:
        if self.failures:
            self.failures -= 1
            raise SupervisionError("told to fail", passing=self.passing)

    def check(self, sample: Sample, traces: Sequence[str]) -> list[Assessment]:
        self.checked.append(list(traces))
        self._fail()
        return [Assessment(level="high", score=0.9) if "82" in trace else Assessment(level="low", score=0.1) for trace in traces]

    def refine(self, sample: Sample, template: Template | None) -> str:
        self.refined.append(template)
        self._fail()
        return self.text


def config(**supervision: Any) -> Config:
    return build({"supervision": {"checker": "local", "refiner": "local", **supervision}})


def grouped(*texts: str, of: Config, sample: Sample = SAMPLE) -> tuple[Group, Route]:
    group = Group(sample=sample, completions=tuple(Completion(text=t, token_ids=(1,)) for t in texts))
    group = verify_group(group, rules_of(of))
    return group, asked(group, of)


def sharpened(supervisor: Supervisor, *groups: tuple[Group, Route], step: int = 0) -> list[Group]:
    return supervisor.finish(supervisor.start([g for g, _ in groups], [r for _, r in groups], step))


def supervised(fake: Fake, of: Config, *groups: tuple[Group, Route]) -> list[Group]:
    with Supervisor(of, fake, fake) as supervisor:
        return sharpened(supervisor, *groups)


def test_only_what_was_routed_is_asked_about() -> None:
    fake, of = Fake(), config()
    explored, memorized, skipped = (grouped(*t, of=of) for t in ((RIGHT, WRONG, UNPARSED), (WRONG, UNPARSED), (RIGHT, RIGHT)))
    assert [route.mode for _, route in (explored, memorized, skipped)] == ["explore", "memorize", "skip"]
    first, second, third = supervised(fake, of, explored, memorized, skipped)
    assert fake.checked == [["fig 82, oat 13, 82 - 13 = 69.", "fig 85, oat 13, 85 - 13 = 72."]] and len(fake.refined) == 1
    assert [v.rewards["thinking"] for v in first.verdicts] == [0.9, 0.1, 0.0]
    assert [a and a.level for a in first.assessments] == ["high", "low", None]
    assert [v.reward for v in first.verdicts] == [2.9, 1.1, 0.0]
    assert second.target == "Observation: fig 82, oat 13." and second.verdicts == memorized[0].verdicts
    assert third == skipped[0]
    assert figures([first, second, third]) == {
        "checked_groups": 1,
        "refined_targets": 1,
        "helper_failures": 0,
        "helper_score": 0.5,
        "graded_traces": 2,
    }


@pytest.mark.parametrize("refiner", ["off", "local"])
def test_a_target_is_scored_if_the_method_asks_for_it(refiner: str) -> None:
    """By the trace that is imitated: the row's own, or the refiner's; without helpers too."""
    of = build({"method": {"trust": True}, "supervision": {"refiner": refiner}})
    memorized, explored = grouped(WRONG, of=of), grouped(RIGHT, WRONG, of=of)
    plain = build({"supervision": {"refiner": refiner}})
    with build_supervisor(of, Path(), print) as supervisor:
        false, other = sharpened(supervisor, memorized, explored)
        asked_for_none = sharpened(supervisor, grouped(WRONG, of=plain))[0]
        scores = [a.score for a in supervisor.local[0].check(SAMPLE, [SAMPLE.rationale or "", false.target or ""])]
    assert other.trust is None and asked_for_none.trust is None
    assert false.trust == scores[refiner == "local"] and scores[0] < 0.3 and (false.trust > 0.8) == (refiner == "local")
    found = figures([false, other, replace(false, trust=1.0)])
    assert (found["trusted_targets"], found["target_trust"]) == (2, (false.trust + 1) / 2)


def test_a_target_is_trusted_where_nothing_is_known() -> None:
    checker, false = LocalChecker(marker="Answer:"), "fig 28, oat 13, 28 - 13 = 15."
    assert checker.trust(SAMPLE, false) < 0.3 < 0.9 < checker.trust(SAMPLE, "fig 82, oat 13, 82 - 13 = 69.")
    text = Fact("title", "how much of each fruit was sold at the market in spring")
    for facts in ((), (text,)):
        assert checker.trust(replace(SAMPLE, facts=facts), false) == 1.0


def test_without_anything_to_compare_nothing_is_asked() -> None:
    fake, of = Fake(), config()
    group, _ = grouped(RIGHT, RIGHT, of=of)
    _, route = grouped(RIGHT, WRONG, of=of)
    assert route.mode == "explore"
    assert supervised(fake, of, (group, route)) == [group] and fake.checked == []


def test_a_group_whose_checker_failed_loses_the_reward_as_a_whole() -> None:
    of = config(on_failure="without")
    [group] = supervised(Fake(failures=1), of, grouped(RIGHT, WRONG, of=of))
    assert all("thinking" not in v.rewards for v in group.verdicts) and group.assessments == ()
    assert [v.reward for v in group.verdicts] == [2.0, 1.0] and group.trouble == "told to fail"
    assert figures([group])["helper_failures"] == 1


def test_a_target_whose_refiner_failed_is_the_rows_own() -> None:
    of = config(on_failure="without")
    [group] = supervised(Fake(failures=1), of, grouped(WRONG, WRONG, of=of))
    assert group.target is None and group.trouble == "told to fail"


def test_the_local_helper_can_stand_in() -> None:
    of = config(on_failure="local")
    [checked, refined] = supervised(Fake(failures=9), of, grouped(RIGHT, WRONG, of=of), grouped(WRONG, WRONG, of=of))
    good, bad = (v.rewards["thinking"] for v in checked.verdicts)
    assert good > 0.8 > bad and checked.trouble
    assert refined.target and "82 - 13 = 69" in refined.target and refined.trouble


BARE = Sample(id="bare", question="Colour?", answer="red")


@pytest.mark.parametrize("refiner", ["other", "local"])
def test_a_local_helper_that_cannot_stand_in_is_a_counted_failure(refiner: str) -> None:
    of = config(on_failure="local")
    groups = [grouped(WRONG, WRONG, of=of, sample=BARE)]
    with build_supervisor(of, Path(), print) if refiner == "local" else Supervisor(of, None, Fake(failures=1)) as supervisor:
        [group] = sharpened(supervisor, *groups)
    own = "bare: has neither facts nor a rationale to write a trace from; give it either"
    assert group.target is None and group.trouble == (own if refiner == "local" else f"told to fail; nor can the local helper: {own}")
    assert figures([group])["helper_failures"] == 1


def test_a_run_can_wait_for_its_helper(monkeypatch: pytest.MonkeyPatch) -> None:
    fake, of = Fake(failures=3), config(on_failure="wait")
    pauses: list[float] = []
    notes: list[str] = []
    with Supervisor(of, fake, fake, note=notes.append) as supervisor:
        monkeypatch.setattr(supervisor._patience, "_pause", pauses.append)
        [group] = sharpened(supervisor, grouped(RIGHT, WRONG, of=of))
    assert pauses == [1.0, 2.0, 4.0] and len(group.assessments) == 2 and not group.trouble
    assert notes == ["waiting until the helper answers; Ctrl-C saves and stops (told to fail)", "waited 0 s for the helper"]


@pytest.mark.parametrize("refiner", ["other", "local"])
def test_what_cannot_heal_is_not_waited_for(refiner: str) -> None:
    of, notes = config(on_failure="wait"), list[str]()
    groups = [grouped(WRONG, WRONG, of=of, sample=BARE)]
    fake = Fake(failures=1, passing=False)
    with build_supervisor(of, Path(), notes.append) if refiner == "local" else Supervisor(of, None, fake, note=notes.append) as supervisor:
        [group] = sharpened(supervisor, *groups)
    assert group.target is None and group.trouble and notes == []


def test_an_interrupt_ends_a_wait() -> None:
    of, asked, notes = config(on_failure="wait"), list[int](), list[str]()
    fake = Fake(failures=9)
    with Supervisor(
        of,
        fake,
        fake,
        note=notes.append,
        interrupted=lambda: asked.append(1) or len(asked) > 3,  # type: ignore[func-returns-value]
    ) as supervisor:
        started = time.monotonic()
        first, second = sharpened(supervisor, *[grouped(WRONG, WRONG, of=of)] * 2)
    assert all(group.target is None and group.trouble == "told to fail" for group in (first, second)) and time.monotonic() - started < 1
    assert len(notes) == 2, "the second group is not waited for at all"


@pytest.mark.parametrize(
    ("always", "heals"), [("500", True), ("429", True), ("drop", True), ("401", False), ("404", False), ("words", False), ("budget", False)]
)
def test_which_failures_of_an_llm_are_waited_for(always: str, heals: bool, tmp_path: Path) -> None:
    """A server that is down or busy; not a wrong key or address, an answer that would come back as it was, or a spent budget."""
    notes: list[str] = []
    with LLMServer(always=always.replace("budget", "500")) as server:
        budget = {"max_calls": 1} if always == "budget" else {}
        of = config(checker="llm", refiner="off", on_failure="wait", url=server.url, model="m", max_retries=0, **budget)
        with build_supervisor(of, tmp_path, notes.append) as supervisor:
            if budget:
                with pytest.raises(SupervisionError):
                    supervisor.checker.check(SAMPLE, ["one"])  # type: ignore[union-attr]
            group, route = grouped(RIGHT, WRONG, of=of)
            [future] = supervisor.start([group], [route], 0)
            if heals:
                while not notes:
                    time.sleep(0.01)
                server.always = ""
            [group] = supervisor.finish([future])
    assert bool(group.trouble) is not heals and bool(group.assessments) is heals
    assert ["waiting" in note for note in notes] == ([True, False] if heals else [])


def test_a_refined_trace_with_the_marker_is_a_failure() -> None:
    of = config()
    [group] = supervised(Fake(text="fig 82. Answer: 70"), of, grouped(WRONG, WRONG, of=of))
    assert group.target is None and "Answer:" in group.trouble


def test_high_traces_become_templates_that_the_refiner_gets() -> None:
    fake, of = Fake(), config()
    structured = "Observation: fig 82, oat 13. Reasoning: 82 - 13 = 69. Answer: 69"
    explored, memorized = grouped(structured, WRONG, of=of), grouped(WRONG, WRONG, of=of)
    with Supervisor(of, fake, fake) as supervisor:
        for step in range(2):
            supervisor.learn(sharpened(supervisor, explored, memorized, step=step))
    assert fake.refined[0] is None and fake.refined[1] is not None and "82" not in fake.refined[1].text


def test_an_llm_must_be_named() -> None:
    with pytest.raises(ConfigError, match=r"supervision\.url"):
        build({"supervision": {"checker": "llm"}})


def test_pure_dyme_and_local_helpers_load_neither_torch_nor_a_network_client(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from dyme.recipe import build; from dyme.supervise.build import build_supervisor;"
        "[build_supervisor(build({'supervision': {'checker': c, 'refiner': c}}), Path('.'), print) for c in ('off', 'local')];"
        "print([m for m in ('torch', 'transformers', 'openai', 'httpx', 'aiohttp', 'rapidocr') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=ENVIRONMENT, cwd=tmp_path, check=True)
    assert done.stdout.strip() == "[]"


# with an endpoint


def full(folder: Path, server: LLMServer, *words: str) -> Config:
    """Five steps of Full DyME against the server."""
    own = ("checker=llm", "refiner=llm", f"url={server.url}", "model=fake", "max_retries=0", "timeout_seconds=5", "concurrency=4")
    return small(folder, "train.max_prompts=20", "rollout.max_completion_length=40", *(f"supervision.{w}" for w in own), *words)


def assessed(row: dict[str, Any]) -> list[bool]:
    """Of the completions that may earn the checker's reward: which ones it assessed."""
    return [c["assessment"] is not None for c in row["completions"] if c["parsed"]]


@pytest.mark.parametrize("overlap", ["true", "false"])
def test_full_dyme_asks_once_a_group_and_a_second_run_nothing(overlap: str, tmp_path: Path) -> None:
    with LLMServer() as server:
        words = (f"supervision.overlap={overlap}", f"supervision.cache={tmp_path / 'answers'}")
        train(full(tmp_path / "one", server, *words))
        rows, requests = lines(tmp_path / "one/rollouts.jsonl"), server.count
        helped = sum(any(assessed(r)) for r in rows) + sum(r["target"] is not None for r in rows)
        calls = RunFolder.open(tmp_path / "one").steps()[-1].metrics["helper_calls"]
        assert 5 < calls <= helped <= len(rows) and requests == calls + TRIAL and not any(r["trouble"] for r in rows)
        train(full(tmp_path / "two", server, *words))
        again = RunFolder.open(tmp_path / "two").steps()[-1].metrics
        assert again["helper_calls"] == 0 and again["helper_cached"] > 0 and server.count == requests
        assert lines(tmp_path / "two/rollouts.jsonl") == rows


@pytest.mark.parametrize("overlap", ["true", "false"])
def test_each_picture_goes_through_the_tower_once(overlap: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the next step is sampled between a step's rollout and its update; 20 prompts with a picture of their own."""
    loaded: list[Policy] = []
    load = Policy.load
    monkeypatch.setattr(Policy, "load", lambda *asked: loaded.append(load(*asked)) or loaded[-1])
    with LLMServer() as server:
        train(full(tmp_path / "run", server, f"supervision.overlap={overlap}", "task.train_size=40"))
    seen = {key for row in lines(tmp_path / "run/rollouts.jsonl") for key in row["images"]}
    assert loaded[0].tower.encoded == len(seen) == 20


def test_an_outage_ends_no_run_and_mixes_no_group(tmp_path: Path) -> None:
    """The server refuses eight requests in the middle of a run and comes back."""
    with LLMServer() as server:
        answer, answered = server.answer, []

        def answering(request: dict[str, Any]) -> str:
            answered.append(request)
            if len(answered) == TRIAL + 4:
                server.faults.extend(["503"] * 8)
            return answer(request)

        server.answer = answering  # type: ignore[method-assign]
        train(full(tmp_path / "run", server))
        assert not server.faults
    rows, steps = lines(tmp_path / "run/rollouts.jsonl"), RunFolder.open(tmp_path / "run").steps()
    assert len(rows) == 20 and len(steps) == 5
    assert all(len(set(assessed(row))) < 2 for row in rows)
    assert sum(bool(row["trouble"]) for row in rows) == 8 == sum(s.metrics.get("helper_failures", 0) for s in steps)
    assert sum(not row["trouble"] and row["target"] is not None for row in rows) > 0


def test_ctrl_c_ends_a_wait_and_saves(tmp_path: Path) -> None:
    """The server goes down for good in the middle of a run that waits."""
    folder = tmp_path / "run"
    with LLMServer() as server:
        own = {"checker": "llm", "refiner": "llm", "url": server.url, "model": "fake", "max_retries": 0, "on_failure": "wait"}
        tree = SMALL | {"run": {"output": str(folder), "save_every": 0}, "train": {"prompts_per_step": 4, "max_prompts": 400}}
        process = start("train", recipe(tmp_path / "recipe.toml", tree | {"supervision": own}))
        until(lambda: (folder / "metrics.jsonl").exists() and len(lines(folder / "metrics.jsonl")) > 1, process)
        server.always = "500"
        until(lambda: any("waiting until" in event.get("message", "") for event in lines(folder / "events.jsonl")), process)
        time.sleep(1.5)  # the wait may be for the step after this one
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=30)
    rows = lines(folder / "rollouts.jsonl")
    assert (process.returncode, error) == (130, "") and "go on with: dyme train --resume" in out
    assert rows[-1]["step"] == len(lines(folder / "metrics.jsonl")) and any("HTTP 500" in row["trouble"] for row in rows)
    assert (folder / f"checkpoints/step-{rows[-1]['step']:06d}/complete.json").is_file()


def until(true: Callable[[], bool], process: Child) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)


def test_a_stage_that_ends_by_time_while_the_next_step_is_sampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that counts its readings. What was sampled early for SFT is drawn anew for GRPO, with rollouts."""
    clock = itertools.count()
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(clock)))
    with LLMServer() as server:
        settings = full(
            tmp_path / "run", server, "method.name=two_stage", "train.max_prompts=0", "train.max_seconds=60", "run.save_every=0"
        )
        train(settings)
    rows, steps = lines(tmp_path / "run/rollouts.jsonl"), RunFolder.open(tmp_path / "run").steps()
    rolled = [any(row["completions"] for row in rows if row["step"] == step.step) for step in steps]
    assert rolled == sorted(rolled) and not rolled[0] and rolled[-1]
    assert steps[rolled.index(True) - 1].seconds >= 30, "SFT had its half"


@pytest.mark.parametrize(
    ("method", "texts"),
    [
        ("dyme", ("fig 82, 82 - 13 = 69. Answer: 69", "The sky is blue. Answer: 69")),
        ("grpo", ("fig 82, 82 - 13 = 69. Answer: 70", "The sky is blue. Answer: 71")),
    ],
)
def test_equal_rewards_of_the_rules_are_no_reason_not_to_ask(method: str, texts: tuple[str, str]) -> None:
    """All correct under all_correct = "explore", or all wrong under grpo: the checker's rewards replace those that are equal."""
    of = build({"method": {"name": method, "all_correct": "explore"}, "supervision": {"checker": "local"}})
    sample = replace(SAMPLE, facts=(), rationale=None)
    group = Group(sample=sample, completions=tuple(Completion(text=t, token_ids=(1,)) for t in texts))
    group = verify_group(group, rules_of(of))
    route = asked(group, of)
    assert settle(route, group, of.objective).mode == "skip"
    fake = Fake()
    [helped] = supervised(fake, of, (group, route))
    graded = settle(route, helped, of.objective)
    assert len(fake.checked) == 1 and graded.mode == "explore" and [b.advantage > 0 for b in graded.branches] == [True, False]
    [same] = supervised(Fake(failures=1), of, (group, route))
    assert settle(route, same, of.objective).mode == "skip", "without grades the rewards are equal"


@pytest.mark.parametrize("key", ["", "\u201cs3cret"])
def test_a_key_that_cannot_be_sent_shows_before_the_run_folder_is_made(key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYME_TEST_KEY", key)
    with LLMServer() as server, pytest.raises(ConfigError, match="DYME_TEST_KEY"):
        train(full(tmp_path / "run", server, "supervision.api_key_env=DYME_TEST_KEY"))
    assert not (tmp_path / "run").exists()


def test_the_key_reaches_no_file_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even where the server repeats it in its refusals."""
    monkeypatch.setenv("DYME_TEST_KEY", "s3cret\n")
    with LLMServer(always="echo") as server:
        train(full(tmp_path / "run", server, "supervision.api_key_env=DYME_TEST_KEY", "train.max_prompts=4"))
    assert any("[key] to fail" in row["trouble"] for row in lines(tmp_path / "run/rollouts.jsonl"))
    assert not any(b"s3cret" in file.read_bytes() for file in (tmp_path / "run").rglob("*") if file.is_file())


def test_a_bad_judge_is_told_before_the_run(tmp_path: Path) -> None:
    with LLMServer(grade=lambda trace: "high") as server:
        train(full(tmp_path / "run", server, "train.max_prompts=4"))
    notes = [event["message"] for event in RunFolder.open(tmp_path / "run").events() if event["kind"] == "note"]
    assert any("50%" in note and "obeys 100%" in note and "--supervision.checker local" in note for note in notes)


def test_a_step_sampled_early_is_weighed_by_what_sampled_it(tmp_path: Path) -> None:
    """With overlap a completion's old log-probabilities are the sampling policy's, so ratios differ from 1 and clipping can act."""
    with LLMServer() as server:
        runs = {overlap: full(tmp_path / overlap, server, f"supervision.overlap={overlap}") for overlap in ("true", "false")}
        for settings in runs.values():
            train(replace(settings, train=replace(settings.train, warmup_steps=0)))
    first, second = (lines(tmp_path / overlap / "rollouts.jsonl") for overlap in runs)
    texts = [[[c["text"] for c in row["completions"]] for row in rows] for rows in (first, second)]
    assert texts[0][:4] == texts[1][:4], "the first step is the same"
    assert texts[0][4:8] != texts[1][4:8] or texts[0][8:] != texts[1][8:], "later ones are sampled by an earlier policy"
