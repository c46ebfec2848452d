"""What the tests of pages share: hostile text, a measured metric, a run of a few steps, and a reader of tags."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

from dyme.config import Config
from dyme.tasks import charts
from dyme.tracking.run_folder import RunFolder
from dyme.types import Branch, Completion, Group, Mode, Route, Sample, StepRecord, Verdict

EVIL = "</script><img src=x onerror=alert(1)>"


def metric(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.03, "high": value + 0.03, "n": 1000}


class Tags(HTMLParser):
    """Collects tags and addresses, and checks that tags close in order."""

    VOID = ("meta", "link", "img", "br", "input", "path", "use", "rect")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.unlabelled: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.names.append(tag)
        self.addresses += [v or "" for k, v in attrs if k in ("src", "href", "action", "srcset")]
        self.ids += [v or "" for k, v in attrs if k == "id"]
        if (tag == "img" and not given.get("alt")) or (tag == "svg" and not given.get("aria-label")):
            self.unlabelled.append(tag)
        assert not any(k.startswith("on") for k, _ in attrs)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert tag in self.VOID or self.open.pop() == tag


def group(sample: Sample, right: int, of: int = 4, text: str = "") -> Group:
    completions, verdicts = [], []
    for k in range(of):
        rewards = {"accuracy": float(k < right), "format": 1.0}
        text_k = text or f"fig is {k} so Answer: {k}"
        completions.append(Completion(text=text_k, token_ids=(1,) * (10 + k)))
        verdict = Verdict(parsed=True, correct=k < right, answer=str(k), thinking="", rewards=rewards, reward=sum(rewards.values()))
        verdicts.append(verdict)
    return Group(sample=sample, completions=tuple(completions), verdicts=tuple(verdicts))


def route(right: int) -> Route:
    mode: Mode = "explore" if right else "memorize"
    branches = (Branch(term="policy", completion=0, advantage=1.73), Branch(term="policy", completion=1, advantage=-0.58))
    return Route(mode=mode, branches=branches if right else (Branch(term="imitate"),), reason=f"{right} of 4 are right")


def make_run(path: Path, steps: int = 6, config: Config | None = None) -> RunFolder:
    run = RunFolder.create(path, config or Config())
    data = charts.samples("train", 4 * steps)
    for step in range(1, steps + 1):
        right = 2 * (step > steps // 2)
        batch = data[4 * step - 4 : 4 * step]
        run.log_rollouts(step, [group(s, right) for s in batch], [route(right)] * 4)
        run.log_step(
            StepRecord(step=step, prompts=4 * step, epoch=0.1, seconds=1.5 * step, metrics={"loss": 1 / step, "odd": float("nan")})
        )
        if step % 3 == 0:
            run.log_evaluation(step, "validation", {"metrics": {"think_accuracy": metric(step / 10)}})
    example = {"id": "t", "question": "How many?", "gold": "4", "completion": "four Answer: 4", "correct": True}
    example["image"] = run.store_image(data[0].images[0])
    metrics = {"mean_length": {"value": 21.5}, "think_accuracy": metric(0.612), "pass_at_8": metric(0.9), "bare": 0.5}
    run.log_evaluation(
        steps,
        "test",
        {
            "metrics": metrics,
            "examples": [example],
            "by_kind": {"read": {"think_accuracy": {"value": 0.375, "n": 8}}, "sum": {"value": 0.5, "n": 2}},
            "by_answer_kind": {"open": {"think_accuracy": {"value": 0.125, "n": 16}, "think_score": {"value": 0.6875, "n": 16}}},
        },
    )
    run.log_event("layout", chosen="tree")
    return run
