"""Prompts of the LLM helpers: instructions from text files, data in fences that the data cannot close.

All data in a prompt are untrusted: traces come from the policy under training, which is rewarded for high grades, and
questions, answers and facts from data sets. A fence contains a hash of the enclosed text, so that no text can hold its own
fence, and equal content still gives an equal prompt, which the cache needs.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from importlib import resources
from typing import Literal

from dyme.errors import ConfigError
from dyme.types import Sample

Domain = Literal["chart", "medical", "geometry", "world", "text"]
"""Kinds of images that prompts are written for; "text": questions without an image."""
_MARKUP = re.compile(r"[<\uff1c](?=[^\s\d=.-])|\[(?=/?[A-Z_]+\])")


def instructions(role: Literal["checker", "refiner", "facts"], domain: Domain) -> str:
    """Return the instructions of a role in a domain: the role's frame with the domain's part. Raises ConfigError for an unknown domain."""
    folder = resources.files("dyme.supervise.llm") / "prompts"
    part = folder / f"{role}-{domain}.txt"
    if not part.is_file():
        known = sorted(p.name.removeprefix(f"{role}-").removesuffix(".txt") for p in folder.iterdir() if p.name.startswith(f"{role}-"))
        raise ConfigError(f"there is no prompt of the {role} for domain {domain!r}; choose one of {', '.join(known)}")
    frame = (folder / f"{role}.txt").read_text(encoding="utf-8")
    return frame.replace("{domain}", part.read_text(encoding="utf-8").strip()).strip()


def sections(parts: Sequence[tuple[str, str]]) -> str:
    """Return titled texts as one, each made harmless and put between fences."""
    safe = [(title, harmless(text)) for title, text in parts]
    fence = hashlib.sha256("\0".join(f"{title}\0{text}" for title, text in safe).encode()).hexdigest()[:16]
    return "\n\n".join(f"<<<{title} {fence}>>>\n{text}\n<<<end {fence}>>>" for title, text in safe)


def sample_parts(sample: Sample) -> list[tuple[str, str]]:
    """Return question, gold answer and facts of a sample as titled texts."""
    facts = "\n".join(f"{one_line(fact.subject)}: {one_line(fact.value)}" for fact in sample.facts)
    return [("question", sample.question), ("gold answer", sample.answer_text), ("facts", facts or "(none)")]


def harmless(text: str) -> str:
    """Return `text` with nothing that looks like a fence or a chat template's token, and without invisible characters.

    "<|im_end|>" becomes "< |im_end|>": servers read such tokens even in the middle of a message.
    """
    visible = "".join(c for c in text if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cf", "Cs"))
    return _MARKUP.sub(lambda found: f"{found[0]} ", visible).strip()


def one_line(text: str) -> str:
    """Return `text` with every run of white space as one space."""
    return " ".join(text.split())
