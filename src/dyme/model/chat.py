"""A model's own chat template, rendered alike for SFT, rollouts and evaluation.

A prompt is one user turn and the template's generation prompt, as `apply_chat_template(add_generation_prompt=True)` of plain
transformers has it. What the template adds by itself, such as a system prompt, stays. Three things are decided here:

- Thinking of a model's own (Qwen3's `<think>`) is off, since DyME teaches its own; the template then closes it in the prompt.
- A date that a template would read off the clock (Llama 3's) is fixed, so that a run reads the same prompt every day.
- An answer ends with the token that the template writes after it, if the model's generation config names that as an end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jinja2 import TemplateError

from dyme.errors import ModelError

DATE = "26 Jul 2024"
"""The date for templates that write one; Llama 3 has this one where the clock cannot be read."""
_MARK = "\u241f"


class Chat:
    """The chat template of a processor or tokenizer, with a system prompt if one is given.

    Raises ModelError for a template that refuses or drops the system prompt.
    """

    def __init__(self, processor: Any, system_prompt: str = "", enable_thinking: bool = False) -> None:
        self.processor = processor
        self.tokenizer = getattr(processor, "tokenizer", processor)
        self.takes_images = self.tokenizer is not processor
        self.system = [{"role": "system", "content": self._content(system_prompt)}] if system_prompt else []
        wanted = {"enable_thinking": enable_thinking, "date_string": DATE}
        self.options = {name: value for name, value in wanted.items() if name in str(processor.chat_template)}
        """Variables of the template that are set; a template without them is rendered as it is."""
        opening, whole = self.prompt("q"), self._render([self._turn("user", "q"), self._turn("assistant", f"{_MARK}x")], generate=False)
        if system_prompt and system_prompt.strip() not in opening:
            raise ModelError("the model's chat template drops model.system_prompt; put the text into task.think_prompt")
        before, _, after = whole.partition(_MARK)
        self.lead = before.removeprefix(opening) if before.startswith(opening) else ""
        """What the template puts between the generation prompt and an answer's first character, often a blank."""
        self.closing = after.removeprefix("x").strip()
        """What it puts after an answer."""

    def prompt(self, text: str, images: int = 0) -> str:
        """One user turn, pictures first, up to where an answer begins."""
        return self._render([self._turn("user", text, images)])

    def tokenize(self, text: str) -> list[int]:
        """Tokens of a text, nothing added."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def adds_special_tokens(self, rendered: str) -> bool:
        """Whether a processor adds its special tokens to a rendered prompt, by the rule of transformers: unless it begins with one."""
        bos = self.tokenizer.bos_token
        return bos is None or not rendered.startswith(bos)

    def end(self, ends: Sequence[int | None]) -> int | None:
        """The token that ends an answer, given those of the generation config: the template's, the tokenizer's, or the first."""
        own = self.tokenizer.eos_token_id
        written = self.tokenize(self.closing)[:1]
        if written and written[0] in ends:
            return written[0]
        return own if own in ends or ends[0] is None else ends[0]

    def _turn(self, role: str, text: str, images: int = 0) -> dict[str, Any]:
        return {"role": role, "content": self._content(text, images)}

    def _content(self, text: str, images: int = 0) -> Any:
        return [*({"type": "image"} for _ in range(images)), {"type": "text", "text": text}] if self.takes_images else text

    def _render(self, turns: list[dict[str, Any]], generate: bool = True) -> str:
        try:
            text: str = self.processor.apply_chat_template(
                [*self.system, *turns], add_generation_prompt=generate, tokenize=False, **self.options
            )
        except TemplateError as error:
            raise ModelError(f"the model's chat template cannot be used: {error}") from error
        return text
