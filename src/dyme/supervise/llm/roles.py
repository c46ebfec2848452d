"""Checker, refiner and extractor of facts by an LLM behind an endpoint (paper, section 3.3).

Departs from the reference code: one call grades a whole group, not one completion; the grade is a structured answer, not a substring;
the LLM's text is untrusted: a trace that breaks the form, contradicts the facts or never gives the gold answer is not trained on.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator, Sequence
from typing import Any

from PIL import Image

from dyme.data.tables import is_blank
from dyme.errors import SupervisionError
from dyme.pictures import ImageSource
from dyme.supervise.llm.client import Client, Schema
from dyme.supervise.llm.prompt import Domain, instructions, one_line, sample_parts, sections
from dyme.supervise.llm.structured import without_thinking
from dyme.supervise.local.checker import LocalChecker
from dyme.supervise.roles import Template
from dyme.supervise.written import LONGEST, fault
from dyme.types import Assessment, Fact, Level, Sample

SCORES: dict[Level, float] = {"low": 0.0, "medium": 0.5, "high": 1.0}
"""Grades as rewards (paper, section 3.3)."""
_CODE_FENCE = re.compile(r"^```\w*\n(.*?)\n?```$", re.DOTALL)
_STRING = {"type": "string", "maxLength": 500}


def _object(**properties: Schema) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


_ATTRIBUTES = {"type": "array", "items": _object(name=_STRING, value=_STRING), "maxItems": 50}
FACTS_SCHEMA = _object(
    description={"type": "string", "maxLength": 2000},
    objects={"type": "array", "items": _object(name=_STRING, attributes=_ATTRIBUTES, position=_STRING), "maxItems": 200},
)
"""The extractor's answer: the paper's {description, objects: [{name, attributes, position}]}, an attribute being a name and a value."""


class LLMChecker:
    """Grades a group in one call."""

    def __init__(self, client: Client, domain: Domain) -> None:
        """Raises ConfigError for a domain without prompt."""
        self._client, self._instructions = client, instructions("checker", domain)

    def check(self, sample: Sample, traces: Sequence[str]) -> list[Assessment]:
        """Return one assessment per trace, in order; equal traces are sent once, and an empty one is graded low without a request.

        Raises SupervisionError if the LLM does not grade them all.
        """
        asked = sorted({trace.strip() for trace in traces} - {""})  # sorted: the order of completions changes neither grades nor key
        grades = dict(zip(asked, self._grades(sample, asked), strict=True)) if asked else {}
        return [_assessment(grades[t]) if (t := trace.strip()) else Assessment(level="low", score=0.0, reason="empty") for trace in traces]

    def _grades(self, sample: Sample, traces: Sequence[str]) -> list[Level]:
        count = len(traces)
        data = sections([*sample_parts(sample), *((f"trace {i}", trace) for i, trace in enumerate(traces, start=1))])
        task = f'Grade traces 1 to {count}. Answer {{"grades": [...]}} with exactly {count} of "low", "medium", "high", in their order.'
        schema = _object(grades={"type": "array", "items": {"type": "string", "enum": list(SCORES)}, "minItems": count, "maxItems": count})
        answer = self._client.ask(_messages(self._instructions, f"{data}\n\n{task}"), schema)
        grades: list[Level] = answer["grades"]
        return grades


class LLMRefiner:
    """Writes the trace to imitate, as free text: small models write better prose than prose inside JSON."""

    def __init__(self, client: Client, domain: Domain, *, marker: str, max_characters: int = LONGEST) -> None:
        """`marker`: the recipe's answer marker, which a trace must not hold; `max_characters`: longest trace that is accepted.

        Raises ConfigError for a domain without prompt.
        """
        self._client, self._instructions = client, instructions("refiner", domain)
        self._marker, self._max_characters, self._checker = marker, max_characters, LocalChecker(marker=marker)

    def refine(self, sample: Sample, template: Template | None) -> str:
        """Return one paragraph of thinking, without marker and final answer line, without objection by the local checker.

        Raises SupervisionError if the LLM writes none.
        """
        parts = sample_parts(sample) + ([("template", template.text)] if template else [])
        task = f"Write the trace now: one paragraph of at most {self._max_characters} characters."
        question = _messages(self._instructions, f"{sections(parts)}\n\n{task}")
        return self._client.ask_text(question, lambda text: self._true(sample, self._formed(text)))

    def _true(self, sample: Sample, trace: str) -> str:
        """Return `trace`. Raises SupervisionError if the facts contradict it or it never gives the gold answer ("I'm sorry, ...")."""
        if objection := self._checker.objection(sample, trace):
            raise SupervisionError(f"the trace {objection}: {trace[:60]!r}")
        return trace

    def _formed(self, text: str) -> str:
        """Return the trace in an answer. Raises SupervisionError for a text that must not be trained on."""
        text = without_thinking(text)
        if fenced := _CODE_FENCE.match(text):
            text = fenced[1]
        trace = one_line(text)
        if trouble := fault(trace, self._marker, self._max_characters):
            raise SupervisionError(f"the trace {trouble}")
        return trace


class LLMExtractor:
    """Reads the facts of an image by a vision model; its prompt does not depend on the question, so one image costs one call."""

    def __init__(self, client: Client, domain: Domain, *, max_side: int = 1536) -> None:
        """`max_side`: longer side in pixels to which a larger image is shrunk. Raises ConfigError for a domain without prompt."""
        self._client, self._instructions, self._max_side = client, instructions("facts", domain), max_side

    def extract(self, sample: Sample) -> tuple[Fact, ...]:
        """Return the distinct facts of the sample's images. Raises SupervisionError if it has none or the LLM reads none."""
        if not sample.images:
            raise SupervisionError(f"{sample.id} has no image to read facts from")
        pictures: list[dict[str, Any]] = [
            {"type": "image_url", "image_url": {"url": _data_url(image, self._max_side)}} for image in sample.images
        ]
        content = [*pictures, {"type": "text", "text": "Describe the image as one JSON object."}]
        return flatten(self._client.ask(_messages(self._instructions, content), FACTS_SCHEMA))


def flatten(answer: dict[str, Any]) -> tuple[Fact, ...]:
    """Return the distinct facts of an answer that fits FACTS_SCHEMA; members without a name or a value ("n/a") are left out.

    An attribute with the name "value" (or none) is the object's value: ("fig", "82"); other names are added: ("fig colour", "red").
    Raises SupervisionError if nothing is left.
    """
    facts = dict.fromkeys(fact for fact in _facts(answer) if fact.subject and not is_blank(fact.value))
    if not facts:
        raise SupervisionError("the answer holds no fact")
    return tuple(facts)


def _facts(answer: dict[str, Any]) -> Iterator[Fact]:
    for found in answer["objects"]:
        name = one_line(found["name"])
        if not name:
            continue
        for attribute in found["attributes"]:
            own = one_line(attribute["name"])
            yield Fact(name if own.casefold() in ("", "value") else f"{name} {own}", one_line(attribute["value"]))
        yield Fact(f"{name} position", one_line(found["position"]))
    yield Fact("image", one_line(answer["description"]))


def _messages(system: str, user: str | list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"role": "system", "content": system}, {"role": "user", "content": user}]


def _assessment(level: Level) -> Assessment:
    return Assessment(level=level, score=SCORES[level], reason="llm")


def _data_url(source: ImageSource, max_side: int) -> str:
    """Return the picture as a PNG data URL: without loss, since a blurred digit is a wrong fact."""
    image = source.load()
    image.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    png = io.BytesIO()
    image.save(png, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}"
