"""A model's own chat template, rendered alike for imitation, rollouts and evaluation.

A prompt is one user turn and the template's generation prompt, as `apply_chat_template(add_generation_prompt=True)` of plain
transformers renders it. Text that the template adds, such as a system prompt, stays. Four things are decided here:

- A model's built-in thinking (Qwen3's `<think>`) is off, since DyME teaches its own; the template then closes it in the prompt.
- A date that a template would read off the clock (those of Llama 3, SmolLM3, Granite) is `model.date`, so that a run, its resumes and
  its evaluations read the same prompt every day.
- A sample's own prompt (`Sample.prompt`) is rendered from its messages as they are, without the recipe's system prompt.
- An answer ends with the token that the template writes after it, if the tokenizer or the model's generation config names that as an
  end; every token that the generation config names ends an answer too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from dyme.config import ModelConfig
from dyme.errors import DataError, ModelError

_MARK = "\u241f"


class Chat:
    """The chat template of a processor or tokenizer, with a system prompt if one is given.

    `options` are variables of the template in place of the values that are set here. Raises ModelError for a template that refuses or
    drops the system prompt. Without a template only prompts of plain text can be read.
    """

    def __init__(
        self, processor: Any, system_prompt: str = "", enable_thinking: bool = False, day: str = ModelConfig.date,
        options: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self.processor = processor
        self.tokenizer = getattr(processor, "tokenizer", processor)
        self.takes_images = self.tokenizer is not processor
        self.system = [{"role": "system", "content": self._content(system_prompt)}] if system_prompt else []
        today = date.fromisoformat(day)
        template = str(processor.chat_template)
        wanted = {"enable_thinking": enable_thinking, "date_string": today.strftime("%d %b %Y")}
        given = {name: value for name, value in wanted.items() if name in template} if options is None else options
        self.options: dict[str, Any] = dict(given)
        """Variables of the template that are set; a template without them is rendered as it is."""
        self.day, self.dated = day, "date_string" in template or "strftime_now" in template
        if "strftime_now" in template:
            own = processor.chat_template
            self.options["chat_template"] = _clock(today) + (own["default"] if isinstance(own, dict) else own)
        self.lead = self.closing = ""
        if processor.chat_template is None:
            return
        opening, whole = self.prompt("q"), self._render([self._turn("user", "q"), self._turn("assistant", f"{_MARK}x")], generate=False)
        if system_prompt and system_prompt.strip() not in opening:
            raise ModelError("the model's chat template drops model.system_prompt; put the text into task.think_prompt")
        if _MARK not in whole or _MARK not in self.prompt(_MARK):
            raise ModelError("the model's chat template drops what it is given; it is empty or damaged")
        before, _, after = whole.partition(_MARK)
        self.lead = before.removeprefix(opening) if before.startswith(opening) else ""
        """What the template puts between the generation prompt and an answer's first character, often a blank."""
        self.closing = after.removeprefix("x").strip()
        """What it puts after an answer."""

    def prompt(self, text: str, images: int = 0) -> str:
        """Return one user turn, pictures first, rendered up to the place where an answer begins."""
        return self._render([self._turn("user", text, images)])

    def conversation(self, messages: Sequence[Mapping[str, Any]], images: int = 0) -> str:
        """Return messages rendered up to the answer's place; pictures without a place in them come before the first user message's text.

        Raises DataError if the number of places for pictures is not the number of pictures.
        """
        if not self.takes_images:
            return self._render(list(map(dict, messages)), system=False)
        turns: list[dict[str, Any]] = []
        loose = images if not any(_places(message) for message in messages) else 0
        for message in messages:
            content = message.get("content")
            if isinstance(content, str):
                own, loose = (loose, 0) if message.get("role") == "user" else (0, loose)
                content = self._content(content, own)
            turns.append({**message, "content": content})
        if (places := sum(map(_places, turns))) != images:
            raise DataError(f"the messages have {places} places for images, and there are {images}; write one part of type image for each")
        return self._render(turns, system=False)

    def tokenize(self, text: str) -> list[int]:
        """Return the tokens of a text without special tokens added."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def adds_special_tokens(self, rendered: str) -> bool:
        """Return whether a processor adds special tokens to a rendered prompt: as in transformers, unless the prompt begins with one."""
        bos = self.tokenizer.bos_token
        return bos is None or not rendered.startswith(bos)

    def ends(self, named: Sequence[int]) -> tuple[int, ...]:
        """Return the tokens that end an answer, the end of targets first; `named` are the end tokens of the generation config.

        The end of targets is the template's, if the tokenizer or the config names it too; else the tokenizer's, if the config names it;
        else the config's.
        """
        own, written = self.tokenizer.eos_token_id, self.tokenize(self.closing)[:1]
        known = [token for token in (*written, own) if token in named]
        first = written if own is not None and written == [own] else known[:1] or list(named[:1]) or ([] if own is None else [own])
        return tuple(dict.fromkeys([*first, *named]))

    def _turn(self, role: str, text: str, images: int = 0) -> dict[str, Any]:
        return {"role": role, "content": self._content(text, images)}

    def _content(self, text: str, images: int = 0) -> Any:
        return [*({"type": "image"} for _ in range(images)), {"type": "text", "text": text}] if self.takes_images else text

    def _render(self, turns: list[dict[str, Any]], generate: bool = True, system: bool = True) -> str:
        if self.processor.chat_template is None:
            raise ModelError(
                "the model has no chat template; use an instruction-tuned checkpoint, or prompts of plain text (Sample.prompt)"
            )
        try:
            text: str = self.processor.apply_chat_template(
                [*(self.system if system else ()), *turns], add_generation_prompt=generate, tokenize=False, **self.options
            )
        except Exception as error:  # a template is code from the checkpoint
            raise ModelError(f"the model's chat template cannot be used: {str(error).strip() or type(error).__name__}") from error
        return text


def texts_of(prompt: str | Sequence[Mapping[str, Any]] | None) -> str:
    """Return all text of a sample's own prompt, one message a line; "" for a sample without its own prompt."""
    if prompt is None or isinstance(prompt, str):
        return prompt or ""
    contents = [message.get("content") or "" for message in prompt]
    parts = [[content] if isinstance(content, str) else [part.get("text") or "" for part in content] for content in contents]
    return "\n".join(" ".join(filter(None, own)) for own in parts)


def _places(message: Mapping[str, Any]) -> int:
    """Return the number of places for pictures in a message."""
    content = message.get("content")
    return sum(part.get("type") == "image" for part in content) if isinstance(content, Sequence) and not isinstance(content, str) else 0


def _clock(day: date) -> str:
    """Return a Jinja macro that replaces transformers' clock: `strftime_now` at midnight of a day.

    A macro, because a template takes plain values only. The line end after the macro is not rendered.
    """
    told = {f"%{letter}": day.strftime(f"%{letter}") for letter in "aAbBdDeFHIjmMpRSTuUwWyY"}
    told |= {"%-d": str(day.day), "%-m": str(day.month), "%%": "%"}
    written = "".join(f" | replace({directive!r}, {value!r})" for directive, value in told.items())
    return f"{{% macro strftime_now(format) %}}{{{{ format{written} }}}}{{% endmacro %}}\n"
