"""The frozen vision tower: each set of images goes through it once, and rollout and update share the output.

The output is kept from before the projector, so that gradients still reach a projector that trains. Images are
named by their content (`pictures.name_of`), so a look-up never waits for the device.
Outputs are kept within a budget of bytes, in memory or, between steps, on disk; the least recently used are dropped first.
"""

from __future__ import annotations

import copy
import inspect
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from dyme.model.tree import Prompt

TOWERS = ("vision_model", "vision_tower", "visual")
"""Names of the tower in the models of transformers."""


def tower_of(model: Any) -> torch.nn.Module | None:
    """Return the model's vision tower, None without one."""
    found = (getattr(model.base_model, name, None) for name in TOWERS)
    return next((tower for tower in found if isinstance(tower, torch.nn.Module)), None)


class Shelf:
    """Tower outputs by name, within `limit` bytes; on disk below `folder` if that is given, else in memory."""

    def __init__(self, limit: int, folder: Path | None = None) -> None:
        self.limit, self.folder = limit, folder
        self.held: OrderedDict[str, tuple[int, Any]] = OrderedDict()
        self.size = 0
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    def get(self, name: str) -> Any | None:
        """Return the output of that name, or None; it becomes the most recently used."""
        if name not in self.held:
            return None
        self.held.move_to_end(name)
        value = self.held[name][1]
        return torch.load(self._file(name), weights_only=True) if self.folder is not None else value

    def put(self, name: str, value: Any) -> None:
        """Keep an output, and drop the least recently used ones to make room."""
        size = sum(t.nbytes for t in _leaves(value))
        if name in self.held or size > self.limit:
            return
        while self.size + size > self.limit:
            gone, (freed, _) = self.held.popitem(last=False)
            self.size -= freed
            if self.folder is not None:
                self._file(gone).unlink(missing_ok=True)
        if self.folder is not None:
            torch.save(value, self._file(name))
        self.held[name] = (size, None if self.folder is not None else value)
        self.size += size

    def _file(self, name: str) -> Path:
        assert self.folder is not None
        return self.folder / f"{name}.pt"


class Tower:
    """Replaces the forward pass of a model's frozen tower: while it serves, the tower returns kept outputs instead of running."""

    def __init__(self, model: Any, shelf: Shelf | None = None) -> None:
        self.model, self.shelf = model, shelf
        self.module = tower_of(model)
        self.step: dict[str, Any] = {}
        self.encoded = 0
        """Prompts whose images went through the tower, since the start."""
        self.unlike = 0
        """Calls in which outputs of different shapes met, so that the tower was run."""
        self._thin: dict[str, dict[str, torch.Tensor]] = {}
        self._answer: dict[str, Any] | None = None
        self._heard: Any = None
        self._listening = False
        if self.module is not None:
            self.module.forward = self._forward

    def __deepcopy__(self, memo: dict[int, Any]) -> Tower:
        """Return itself for a copy of the model: a frozen tower's outputs are right for both."""
        other = memo[id(self)] = copy.copy(self)
        other.model, other.module = copy.deepcopy(self.model, memo), copy.deepcopy(self.module, memo)
        return other

    @property
    def frozen(self) -> bool:
        """Return whether there is a tower that gets no gradient."""
        return self.module is not None and not any(p.requires_grad for p in self.module.parameters())

    def prepare(self, prompts: Sequence[Prompt], keep: Sequence[Prompt] = ()) -> None:
        """Hold in memory the outputs for these prompts' images, and of the others held so far only those for the images of `keep`."""
        wanted = {p.images: p for p in prompts if p.images} if self.frozen else {}
        for name in self.step.keys() - wanted.keys() - {p.images for p in keep}:
            del self.step[name]
            self._thin.pop(name, None)
        for name, prompt in wanted.items():
            if name not in self.step:
                self.step[name] = self._fetch(name, prompt)

    @contextmanager
    def serving(self, images: Sequence[str]) -> Iterator[None]:
        """Answer one call of the tower with the outputs for these images, joined in order; unknown or different ones are computed."""
        known = self._known(images)
        if known and _alike(known):
            self._answer = _joined(known)
        self.unlike += bool(known) and self._answer is None
        try:
            yield
        finally:
            self._answer = None

    def thin(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        """Return the prompts with one number for the pixels of each picture, expanded to their shape, if the tower need not run on them;
        else unchanged. The number is 0 for a picture of zeros, which processors pad with and models leave out.
        """
        known = self._known([prompt.images for prompt in prompts if prompt.vision])
        if not known or not _alike(known):
            return list(prompts)
        for prompt in prompts:
            if prompt.vision and prompt.images not in self._thin:
                self._thin[prompt.images] = {name: _thinned(name, value, self.model.dtype) for name, value in prompt.vision.items()}
        return [replace(prompt, vision=self._thin[prompt.images]) if prompt.vision else prompt for prompt in prompts]

    def _known(self, images: Sequence[str]) -> list[dict[str, Any]]:
        """Return the kept outputs for these images, or an empty list if any is missing."""
        known = [self.step[name] for name in images if name in self.step] if self.frozen else []
        return known if len(known) == len(images) else []

    def _forward(self, *args: Any, **kwargs: Any) -> Any:
        if self._answer is not None:
            return _Served(**self._answer)
        assert self.module is not None
        dtype = next(self.module.parameters()).dtype
        own = [_cast(value, dtype) for value in args], {name: _cast(value, dtype) for name, value in kwargs.items()}
        out = type(self.module).forward(self.module, *own[0], **own[1])
        if self._listening:
            self._heard = out = _Watched(out)
        return out

    @torch.no_grad()
    def _fetch(self, name: str, prompt: Prompt) -> dict[str, Any]:
        """Return the part of the tower's output for a prompt's images that the projector reads, from the shelf or by running the tower."""
        device = next(self.model.parameters()).device
        if self.shelf is not None and (kept := self.shelf.get(name)) is not None:
            found: dict[str, Any] = _mapped(kept, lambda t: t.to(device, non_blocking=True))
            return found
        accepted = inspect.signature(self.model.base_model.get_image_features).parameters
        given = {k: v.to(device, non_blocking=True) for k, v in prompt.vision.items() if k in accepted}
        self._listening = True
        try:
            self.model.base_model.get_image_features(**given)
        finally:
            self._listening = False
        out: dict[str, Any] = self._heard.read()
        self.encoded += 1
        if self.shelf is not None:
            self.shelf.put(name, _mapped(out, lambda t: t.to("cpu")))
        return out


class _Served(SimpleNamespace):
    """A kept output of the tower, returned again."""

    def to_tuple(self) -> tuple[Any, ...]:
        """Return its parts as a tuple, as a model output does; transformers 5.24 calls this on the parts too."""
        return tuple(vars(self).values())


class _Watched:
    """A tower's output that remembers which of its parts are read, so that only those are kept."""

    def __init__(self, out: Any) -> None:
        self._out, self._layers = out, _Layers(getattr(out, "hidden_states", None) or ())
        self._read: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._out, name)
        if name == "hidden_states":
            return self._layers
        if not callable(value):
            self._read[name] = value
        return value

    def read(self) -> dict[str, Any]:
        later = {"deepstack_features"} & set(self._out.keys())  # read by the language model, not by the projector
        states = {"hidden_states": self._layers.used()} if self._layers.indices else {}
        absent = {name: None for name, value in vars(self._out).items() if value is None}  # a later reader may ask whether there is one
        return absent | self._read | {name: self._out[name] for name in later} | states


class _Layers(tuple[torch.Tensor, ...]):
    """The hidden states of all layers; remembers which ones are read."""

    indices: set[int]

    def __new__(cls, states: Sequence[torch.Tensor]) -> _Layers:
        self = super().__new__(cls, states)
        self.indices = set()
        return self

    def __getitem__(self, index: Any) -> Any:
        self.indices.add(range(len(self))[index])
        return super().__getitem__(index)

    def used(self) -> tuple[torch.Tensor | None, ...]:
        return tuple(state if k in self.indices else None for k, state in enumerate(self))


def _mapped(value: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """Return the same nested dictionaries and sequences with each tensor changed."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, dict):
        return {k: _mapped(v, change) for k, v in value.items()}
    return tuple(_mapped(v, change) for v in value) if isinstance(value, (list, tuple)) else value


def _cast(value: Any, dtype: torch.dtype) -> Any:
    """Return pixels in the tower's type of numbers, which not every tower converts them to."""
    return value.to(dtype) if isinstance(value, torch.Tensor) and value.is_floating_point() else value


def _leaves(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (dict, list, tuple)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _leaves(part)


def _thinned(name: str, value: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return pixels, or the mask of a picture's pixels, as one number for each picture (or patch), expanded to their shape."""
    inner = {"pixel_values": 3, "pixel_attention_mask": 2}.get(name)  # dimensions of one picture; pixels with fewer come in patches
    if inner is None or (name == "pixel_attention_mask" and value.ndim <= inner):
        return value
    lead = value.ndim - inner if value.ndim > inner else 1
    one = value.flatten(lead).ne(0).any(-1).to(dtype if value.is_floating_point() else value.dtype)
    return one.reshape(*one.shape, *[1] * (value.ndim - lead)).expand(value.shape)


def _alike(outputs: Sequence[Any]) -> bool:
    """Return whether outputs of several calls have equal shapes except in the first dimension, so that they can be joined."""
    return len({tuple(leaf.shape[1:] for leaf in _leaves(output)) for output in outputs}) == 1


def _joined(outputs: Sequence[Any]) -> Any:
    """Return outputs of several calls as one, joined along the first dimension."""
    first = outputs[0]
    if isinstance(first, torch.Tensor):
        return torch.cat(list(outputs)) if len(outputs) > 1 else first
    if isinstance(first, dict):
        return {k: _joined([o[k] for o in outputs]) for k in first}
    return tuple(_joined(parts) for parts in zip(*outputs, strict=True)) if isinstance(first, (list, tuple)) else first
