"""The helpers that a recipe names: local ones, or an LLM behind an endpoint, whose client is imported only then."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dyme.config import Config, SupervisionConfig
from dyme.errors import DataError, SupervisionError
from dyme.supervise import flips
from dyme.supervise.audit import Labelled, Report, evaluate, labelled, material
from dyme.supervise.local.checker import LocalChecker
from dyme.supervise.local.refiner import LocalRefiner
from dyme.supervise.roles import Checker, Refiner
from dyme.supervise.self_refiner import SelfRefiner
from dyme.supervise.supervisor import Supervisor
from dyme.system.launch import node

if TYPE_CHECKING:
    from dyme.supervise.llm.client import Client

TRIAL = 24
"""Number of traces that an LLM grades before a run begins."""
TRUSTED = 0.8
"""AUC below which a run warns about its checker."""
CACHE = "answers.sqlite"
"""File of an LLM's answers, in the run folder unless the recipe names one."""


def check_helpers(config: Config) -> None:
    """Raise ConfigError for an LLM that cannot be used (no package, no key) and for a self-refiner's prompt that cannot be used."""
    if config.supervision.refiner == "self":
        SelfRefiner(config)
    if config.supervision.remote:
        connect(config.supervision, None, lambda line: None).close()


def build_supervisor(config: Config, run: Path, note: Callable[[str], None], interrupted: Callable[[], bool] = lambda: False) -> Supervisor:
    """Return the supervisor of a run in the folder `run`; `interrupted` returns whether the run is to stop.

    Raises ConfigError for a client that cannot be made.
    """
    settings, marker = config.supervision, config.task.marker
    checker: Checker | None = LocalChecker(marker=marker) if settings.checker == "local" else None
    refiner: Refiner | None = LocalRefiner(marker=marker) if settings.refiner in ("local", "self") else None
    policy = SelfRefiner(config) if settings.refiner == "self" else None
    if told := flips.warning(settings.flip):
        note(told)
    if not settings.remote:
        return Supervisor(config, checker, refiner, policy=policy)
    from dyme.supervise.llm.roles import LLMChecker, LLMRefiner

    client = connect(settings, _cache(settings, run), note)
    checker = LLMChecker(client, settings.domain) if settings.checker == "llm" else checker
    refiner = LLMRefiner(client, settings.domain, marker=marker) if settings.refiner == "llm" else refiner
    return Supervisor(config, checker, refiner, client, policy=policy, note=note, interrupted=interrupted)


def _cache(settings: SupervisionConfig, run: Path) -> Path:
    """Return the cache file, one for each computer of a launch, since SQLite's locks are local: answers.sqlite, answers-1.sqlite, ..."""
    file = Path(settings.cache) if settings.cache else run / CACHE
    return file.with_stem(f"{file.stem}-{node()}") if node() else file


def connect(settings: SupervisionConfig, cache: Path | None, note: Callable[[str], None]) -> Client:
    """Return a client of the endpoint that the recipe names; sends nothing yet."""
    from dyme.supervise.llm.client import Client
    from dyme.supervise.llm.endpoint import Endpoint

    endpoint = Endpoint(
        url=settings.url, model=settings.model, api_key_env=settings.api_key_env, timeout_seconds=settings.timeout_seconds,
        max_retries=settings.max_retries, max_tokens=settings.max_tokens,
    )  # fmt: skip
    return Client(endpoint, cache=cache, max_calls=settings.max_calls, max_tokens_total=settings.max_total_tokens, note=note)


def judge_endpoint(config: Config, items: Sequence[Labelled], note: Callable[[str], None], cache: Path | None = None) -> Report:
    """Return the figures of the recipe's LLM as a checker, with its calls and tokens. Raises SupervisionError if it fails."""
    from dyme.supervise.llm.roles import LLMChecker

    with closing(connect(config.supervision, cache, note)) as client:
        report = evaluate(LLMChecker(client, config.supervision.domain), items)
    stats = client.stats
    return replace(report, calls=stats.calls, tokens=stats.prompt_tokens + stats.completion_tokens)


def warning(config: Config, run: Path) -> str | None:
    """Return one line if the recipe's LLM grades a few traces of known quality badly, else None; None without an LLM."""
    if config.supervision.checker != "llm":
        return None
    try:
        items = labelled(material(config.task, "train", TRIAL), random.Random(config.run.seed), TRIAL)
        report = judge_endpoint(config, items, lambda line: None, _cache(config.supervision, run))
    except (DataError, SupervisionError) as error:
        return f"the LLM was not tried as a checker: {error}"
    if report.auc >= TRUSTED and not report.injection_rate:
        return None
    return (
        f"{config.supervision.model} ranks true traces above corrupted ones in {report.auc:.0%} of the pairs of {report.traces} traces "
        f"(chance: 50%) and obeys {report.injection_rate:.0%} of commands inside a trace; see dyme judge {config.supervision.url}, "
        "or take --supervision.checker local"
    )
