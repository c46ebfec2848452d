"""Trackers of other packages, through accelerate: TensorBoard, W&B, trackio, and accelerate's other trackers without a table of samples.

A resumed run continues in the same place, and no step shows twice: TensorBoard drops repeated steps, and for W&B and trackio
`trackers/NAME.json` in the run folder keeps the service's run and the last step that was reported.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from accelerate import tracking
from numpy import asarray

from dyme.config import Config
from dyme.system.files import write_whole
from dyme.system.launch import is_main
from dyme.system.processes import from_main
from dyme.tracking.run_folder import IMAGE_EDGE, RunFolder
from dyme.tracking.trackers import OTHERS, Reports, Tracker, check, named, own
from dyme.types import Group, Route, Sample, StepRecord

COLUMNS = ("id", "question", "answer", "mode", "target", "completion", "correct", "reward", "advantage")
"""Of a table of samples, besides the picture: a row for each completion, one for a group without any."""


def reports_of(config: Config, trackers: Sequence[Tracker] | Reports) -> AbstractContextManager[Reports]:
    """Return the reports of a run to these trackers, else to those that `run.report_to` names; only the main process has trackers.

    A caller that gives Reports finishes them itself. Raises ConfigError for trackers that are unknown or not installed.
    """
    if isinstance(trackers, Reports):
        return nullcontext(trackers)
    from_main(lambda: check(config, trackers))
    return Reports(lambda: trackers_of(config, trackers))


def trackers_of(config: Config, trackers: Sequence[Tracker] = ()) -> dict[str, Tracker | type[Tracker]]:
    """Return these trackers by name, else those that `run.report_to` names."""
    if not is_main():
        return {}
    if trackers:
        return {f"{type(tracker).__name__} {k}": tracker for k, tracker in enumerate(trackers, 1)}
    made: dict[str, Tracker] = {name: Service(name) for name in OTHERS}
    made |= {"tensorboard": TensorBoard(), "wandb": WandB(), "trackio": Trackio()}
    return {name: made.get(name) or own(name) for name in named(config)}


def project_of(config: Config, variable: str) -> str:
    """Return the project that a run belongs to: `run.project`, else the environment variable of the service, else "dyme"."""
    return config.run.project or os.environ.get(variable) or "dyme"


class Service(Tracker):
    """One of accelerate's trackers, by name: logs figures as train/NAME, evaluations as EVALUATION/NAME, and the settings."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.made: Any = None
        """accelerate's tracker, once it was started."""

    def start(self, config: Config, run: RunFolder) -> None:
        """Start the service's run, or continue that of a resumed run."""
        kind = tracking.LOGGER_TYPE_TO_CLASS[self.name]
        self.made = kind(project_of(config, ""), *([str(run.path)] if kind.requires_logging_directory else []))
        self.made.start()
        self.made.store_init_configuration(flat(config))

    def log_step(self, record: StepRecord) -> None:
        """Log the figures of a step."""
        figures = {"epoch": record.epoch, "prompts": record.prompts, "seconds": record.seconds, **record.metrics}
        self.log({f"train/{name}": value for name, value in figures.items()}, record.step)

    def log_evaluation(self, step: int, name: str, result: Mapping[str, Any]) -> None:
        """Log the values of an evaluation, and the ends of the accuracies' intervals."""
        figures = {metric: found["value"] for metric, found in result["metrics"].items()}
        for metric in [metric for metric in figures if metric.endswith("_accuracy")]:
            figures |= {f"{metric}_{end}": result["metrics"][metric][end] for end in ("low", "high")}
        self.log({f"{name}/{metric}": value for metric, value in figures.items()}, step)

    def log(self, values: Mapping[str, Any], step: int) -> None:
        """Pass values of a step to the service."""
        self.made.log(dict(values), step=step)

    def finish(self) -> None:
        """End the service's run."""
        self.made.finish()


class TensorBoard(Service):
    """Event files in the run folder's `tensorboard`; samples as texts and pictures, the settings as a text."""

    def __init__(self) -> None:
        super().__init__("tensorboard")

    def start(self, config: Config, run: RunFolder) -> None:
        """Start the event files; steps that a resumed run repeats replace the earlier ones."""
        self.made = tracking.TensorBoardTracker("tensorboard", str(run.path), purge_step=len(run.steps()) + 1)
        self.made.start()
        self.made.tracker.add_text("config", f"```json\n{json.dumps(config.to_dict(), indent=1)}\n```")

    def log_samples(self, step: int, groups: Sequence[Group], routes: Sequence[Route]) -> None:
        """Write a Markdown table, and the pictures beside it."""
        writer = self.made.tracker
        table = [[cell(value) for value in row] for group, route in zip(groups, routes, strict=True) for row in rows(group, route)]
        lines = [COLUMNS, ["---"] * len(COLUMNS), *table]
        writer.add_text("samples", "\n".join(f"| {' | '.join(line)} |" for line in lines), step)
        for k, group in enumerate(groups, 1):
            if (picture := picture_of(group.sample)) is not None:
                writer.add_image(f"samples/picture {k}", asarray(picture), step, dataformats="HWC")


class Kept:
    """The record of a service's run in the run folder, `trackers/NAME.json`, by which a resumed run continues it."""

    def __init__(self, file: Path, run: Mapping[str, str]) -> None:
        """Read the file; if there is none yet, keep `run`, which names the service's run."""
        self.file, self.old = file, file.exists()
        """Whether the service's run had begun before."""
        held: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if self.old else {"run": dict(run), "last": {}}
        self.run: dict[str, str] = held["run"]
        self.last: dict[str, int] = held["last"]
        """Kind of report -> the last step that was reported."""
        self.write()

    def new(self, kind: str, step: int) -> bool:
        """Return whether no report of this kind was made after `step` yet."""
        return step > self.last.get(kind, -1)

    def reported(self, kind: str, step: int) -> None:
        """Record that a report of this kind was made after `step`."""
        self.last[kind] = step
        self.write()

    def write(self) -> None:
        """Write the record to its file."""
        self.file.parent.mkdir(exist_ok=True)
        write_whole(self.file, json.dumps({"run": self.run, "last": self.last}).encode())


class Hosted(Service):
    """A service whose run can be continued, by an id or a name, and that has tables with pictures: `module` has Table and Image."""

    kept: Kept
    module: Any

    def log_step(self, record: StepRecord) -> None:
        """Log the figures of a step, unless they were reported before."""
        if self.kept.new("train", record.step):
            super().log_step(record)
            self.kept.reported("train", record.step)

    def log_evaluation(self, step: int, name: str, result: Mapping[str, Any]) -> None:
        """Log an evaluation, unless it was reported before."""
        if self.kept.new(name, step):
            super().log_evaluation(step, name, result)
            self.kept.reported(name, step)

    def log_samples(self, step: int, groups: Sequence[Group], routes: Sequence[Route]) -> None:
        """Log a table of samples, with the picture in the first column."""
        if not self.kept.new("samples", step):
            return
        pictures = [picture_of(group.sample) for group in groups]
        images = [None if picture is None else self.module.Image(picture) for picture in pictures]
        if shown := [image for image in images if image is not None]:
            self.log_pictures(shown, step)
        data = [[image, *row] for image, group, route in zip(images, groups, routes, strict=True) for row in rows(group, route)]
        self.log({"samples": self.module.Table(columns=["picture", *COLUMNS], data=data)}, step)
        self.kept.reported("samples", step)

    def log_pictures(self, images: Sequence[Any], step: int) -> None:
        """Log the pictures of a table separately, if the service needs that."""


class WandB(Hosted):
    """A run of W&B, its files in the run folder's `wandb`; WANDB_MODE=offline keeps it there. A run that is open already is used."""

    def __init__(self) -> None:
        super().__init__("wandb")

    def start(self, config: Config, run: RunFolder) -> None:
        """Start the run, or continue it by its id."""
        import wandb

        self.module, self.theirs, self.highest = wandb, wandb.run is not None, 0
        names = {"id": uuid.uuid4().hex[:8], "project": project_of(config, "WANDB_PROJECT")}
        self.kept = Kept(run.path / "trackers" / "wandb.json", names)
        self.made = tracking.WandBTracker(
            self.kept.run["project"], name=name_of(config), id=self.kept.run["id"], resume="allow", dir=str(run.path),
            settings=wandb.Settings(console="off"),
        )  # fmt: skip
        if wandb.run is not None:
            self.made.run, self.highest = wandb.run, wandb.run.step
        else:
            self.made.start()
        self.made.run.config.update(config.to_dict(), allow_val_change=True)

    def log(self, values: Mapping[str, Any], step: int) -> None:
        """Pass on values of a step; W&B rejects values of steps before the last one, such as the best model's."""
        self.highest = max(self.highest, step)
        super().log(values, self.highest)

    def log_pictures(self, images: Sequence[Any], step: int) -> None:
        """Keep the pictures in the run's own files; a table alone would leave them in W&B's cache folder."""
        self.log({"samples/pictures": list(images)}, step)

    def finish(self) -> None:
        """End the run, unless the caller's script had opened it."""
        if not self.theirs:
            super().finish()


class Trackio(Hosted):
    """A run of trackio, in its own folder (TRACKIO_DIR) or Space (TRACKIO_SPACE_ID)."""

    def __init__(self) -> None:
        super().__init__("trackio")

    def start(self, config: Config, run: RunFolder) -> None:
        """Start the run, or continue it by its name."""
        import trackio

        self.module = trackio
        self.kept = Kept(
            run.path / "trackers" / "trackio.json", {"name": name_of(config), "project": project_of(config, "TRACKIO_PROJECT")}
        )
        how = "allow" if self.kept.old else "never"
        self.made = tracking.TrackioTracker(
            self.kept.run["project"], name=self.kept.run["name"], resume=how, config=config.to_dict(), embed=False
        )
        self.made.start()
        known = self.kept.run.setdefault("id", self.made.tracker.id)
        if known != self.made.tracker.id:
            raise RuntimeError(f"another run of the name {self.kept.run['name']!r} has begun since; give each its own run.run_name")
        self.kept.write()

    def log(self, values: Mapping[str, Any], step: int) -> None:
        """Pass on values with their step, which accelerate before 1.11 leaves out."""
        self.made.tracker.log(dict(values), step=step)


def name_of(config: Config) -> str:
    """Return the name of a run: `run.run_name`, else its folder as it was given."""
    return config.run.run_name or Path(config.run.output).as_posix()


def flat(config: Config) -> dict[str, Any]:
    """Return the settings as "section.key": number, switch or text."""
    found = {f"{section}.{key}": value for section, table in config.to_dict().items() for key, value in table.items()}
    return {name: value if isinstance(value, bool | int | float | str) else str(value) for name, value in found.items()}


def rows(group: Group, route: Route) -> list[tuple[Any, ...]]:
    """Return a group as rows of COLUMNS."""
    sample, advantages = group.sample, {branch.completion: branch.advantage for branch in route.branches}
    target = group.target or sample.rationale or ""
    head = (sample.id, sample.question, sample.answer, route.mode, target)
    answered: list[tuple[Any, ...]] = [
        (completion.text, verdict.correct, verdict.reward, advantages.get(k))
        for k, (completion, verdict) in enumerate(zip(group.completions, group.verdicts, strict=True))
    ]
    return [(*head, *row) for row in answered or [("", None, None, None)]]


def cell(value: Any) -> str:
    """Return a value as a cell of a Markdown table."""
    text = "" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", "<br>")


def picture_of(sample: Sample) -> Any:
    """Return a small copy of a sample's first picture, or None."""
    if not sample.images:
        return None
    picture = sample.images[0].load().convert("RGB")
    picture.thumbnail((IMAGE_EDGE, IMAGE_EDGE))
    return picture
