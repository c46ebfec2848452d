"""Opening a checkpoint: its place, its weights, its processor, and a one-line error for a checkpoint that cannot be used.

A checkpoint is a folder of Hugging Face files, a hub id, a GGUF file, the folder of a LoRA adapter (its base is named there),
or the folder of a finished run.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES
from transformers.processing_utils import ProcessorMixin
from transformers.video_processing_utils import BaseVideoProcessor

from dyme.config import ModelConfig
from dyme.errors import ModelError
from dyme.model import adapters, merging, resolution
from dyme.model.attention import NAME, register
from dyme.model.precision import all_finite

_WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "pytorch_model*.bin")
_NUMBER = re.compile(r"(?<=\.)[0-9]+(?=\.)")
"""A layer's place within a weight's name."""


def open_checkpoint(config: ModelConfig, dtype: torch.dtype, *, templated: bool = True) -> tuple[Any, Any]:
    """Return the model in `dtype`, with its LoRA adapter or the new one that the config asks for, and the processor, from `config.path`.

    Raises ModelError in one line for a checkpoint that cannot be used, and, if `templated`, for one without a chat template.
    """
    path = resolve(config)
    base, folders = _base(path, config)
    transformers.utils.logging.disable_progress_bar()  # it breaks the live display
    try:
        model, processor, found = _read(base, folders, config, dtype)
    except ModelError:
        raise
    except Exception as error:  # others' code on files that may hold anything
        raise ModelError(f"{config.path}: cannot load the model: {first_line(error)}") from error
    if missing := sorted(found["missing_keys"]):
        raise ModelError(f"{config.path}: lacks {len(missing)} of the model's weights ({missing[0]} ...); the download may be incomplete")
    if beyond := _beyond(model, found["unexpected_keys"]):
        raise ModelError(
            f"{config.path}: config.json has no place for {len(beyond)} of the weights ({beyond[0]} ...); it belongs to another"
        )
    if templated and getattr(processor, "chat_template", None) is None:
        raise ModelError(f"{config.path}: has no chat template; use an instruction-tuned checkpoint or add chat_template.jinja")
    resolution.apply(processor, config)
    attend(model, config.attention)
    for folder in reversed(folders):
        if adapters.attached(model):
            merging.merge(model)
        adapters.reopen(model, folder, _words(processor))
    if config.lora_rank and not adapters.attached(model):
        adapters.attach(model, config, path)
    if not all_finite(model.parameters()):
        broken = [name for name, weight in model.named_parameters() if not weight.isfinite().all()]
        raise ModelError(
            f"{config.path}: {len(broken)} of its weights are not finite in {str(dtype).removeprefix('torch.')} ({broken[0]} ...), as "
            "training that diverged leaves them; take an earlier checkpoint"
        )
    return model, processor


def _base(path: str, config: ModelConfig) -> tuple[str, list[Path]]:
    """Return the base checkpoint, and the folders of the adapters on it, topmost first; no folders if `path` is not an adapter.

    Raises ModelError for a base that cannot be used.
    """
    folders: list[Path] = []
    while (Path(path) / adapters.SETTINGS).exists():
        folder = Path(path)
        if folder in folders:
            raise ModelError(f"{folder}: {adapters.SETTINGS} names its own folder as its base; fill in base_model_name_or_path")
        folders.append(folder)
        try:
            path = resolve(replace(config, path=adapters.base_of(folder)))
        except ModelError as error:
            raise ModelError(f"{folder}: has no base: {error}; base_model_name_or_path in {adapters.SETTINGS} names it") from error
    return path, folders


def _words(processor: Any) -> torch.Tensor:
    """Return a few tokens [1, L] of a text."""
    tokenizer = getattr(processor, "tokenizer", processor)
    return torch.tensor([tokenizer("How many are 7 apples and 5 pears? They are 12.", add_special_tokens=False)["input_ids"]])


def declare(folder: Path, dtype: torch.dtype) -> None:
    """Write the type of the weights into a saved folder's config.json, in all its parts."""

    def named(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {key: str(dtype).removeprefix("torch.") if key == "dtype" else named(part) for key, part in value.items()}

    file = folder / "config.json"
    file.write_text(json.dumps(named(json.loads(file.read_text(encoding="utf-8"))), indent=2) + "\n", encoding="utf-8")


def resolve(config: ModelConfig) -> str:
    """Return the folder, GGUF file or hub id behind `config.path`; raises ModelError, before torch does any work, for an unusable one."""
    if config.path == "embedded":
        return str(resources.files("dyme.embedded") / "base")
    folder = Path(config.path)
    if not folder.exists():
        if folder.is_absolute() or config.path.count("/") != 1 or config.path.startswith("."):
            raise ModelError(f"{config.path}: no such folder; give a local folder, a hub id such as org/name, or embedded")
        return config.path
    if folder.is_file():
        return _gguf(folder, [folder])
    final = folder / "model"
    if _adapted(folder) or _adapted(final):
        return str(folder if _adapted(folder) else final)
    if not (folder / "config.json").exists() or not any(folder.glob("*token*")):
        if (final / "config.json").exists():
            folder = final
        elif files := sorted(folder.glob("*.gguf")):
            return _gguf(folder, files)
        elif not (folder / "config.json").exists():
            raise ModelError(f"{config.path}: has no config.json; give the folder of a Hugging Face checkpoint or of a finished run")
    if not any(file.stat().st_size for pattern in _WEIGHTS for file in folder.glob(pattern)):
        raise ModelError(f"{config.path}: has no weights (*.safetensors); the download may be incomplete")
    if "auto_map" in _described(folder) and not config.trust_remote_code:
        raise ModelError(f"{config.path}: wants to run its own Python code; if you trust it, add --model.trust_remote_code true")
    return str(folder)


def first_line(error: BaseException) -> str:
    """Return an error's message in one line: its first line, and, if that ends in a colon, the next."""
    said = str(error).strip().splitlines() or [type(error).__name__]
    return " ".join(line.strip() for line in said[: 2 if said[0].endswith(":") else 1])


def _described(folder: Path) -> dict[str, Any]:
    """Return the content of config.json; raises ModelError for a file that holds no settings."""
    try:
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{folder}: config.json is not valid JSON ({first_line(error)}); the download may be incomplete") from error
    if not isinstance(settings, dict):
        raise ModelError(f"{folder}: config.json holds no settings; the download may be incomplete")
    return settings


def _check_size(base: str, shape: Any, loader: Any) -> None:
    """Raise ModelError, before anything is built, if config.json describes a far larger model than there are weights.

    That happens if a part of config.json is lost and the family's default replaces it. A weight takes at least half a byte.
    """
    held = sum(file.stat().st_size for pattern in _WEIGHTS for file in Path(base).glob(pattern)) if Path(base).is_dir() else 0
    if not held:
        return
    with torch.device("meta"):
        described = sum(weight.numel() for weight in loader.from_config(shape).parameters())
    if described > 4 * held:
        raise ModelError(f"{base}: config.json describes a model of {described:,} weights, and {held:,} bytes of them are there")


def _beyond(model: Any, names: Iterable[str]) -> list[str]:
    """Return names of weights whose layers the model lacks, though it has others of their kind; all, if they are most of the file's."""
    own, names = list(model.state_dict()), sorted(names)
    kinds = {_NUMBER.sub("#", name) for name in own}
    return names if len(names) > len(own) else [n for n in names if _NUMBER.search(n) and _NUMBER.sub("#", n) in kinds]


def _adapted(folder: Path) -> bool:
    """Return whether a folder holds a LoRA adapter; raises ModelError for one without weights."""
    if not (folder / adapters.SETTINGS).exists():
        return False
    if not any(file.stat().st_size for file in folder.glob(adapters.WEIGHTS)):
        raise ModelError(f"{folder}: has {adapters.SETTINGS} but no {adapters.WEIGHTS}; the download may be incomplete")
    return True


def _gguf(where: Path, files: list[Path]) -> str:
    """Return the only GGUF file; raises ModelError if there are several, if it is another kind of file, or without the package gguf."""
    if len(files) > 1:
        raise ModelError(f"{where}: has {len(files)} GGUF files; give the path of one, e.g. {files[0]}")
    if files[0].suffix != ".gguf":
        raise ModelError(f"{where}: is a file; give a folder, a *.gguf file, a hub id such as org/name, or embedded")
    if importlib.util.find_spec("gguf") is None:
        raise ModelError(f"{where}: reading GGUF takes another package: pip install 'dyme[gguf]'")
    return str(files[0])


def _read(base: str, folders: Sequence[Path], config: ModelConfig, dtype: torch.dtype) -> tuple[Any, Any, Any]:
    """Return model, processor, and the report of found weights; the processor is that of the first folder that has one, or the base's."""
    options: dict[str, Any] = {"trust_remote_code": config.trust_remote_code}
    if base.endswith(".gguf"):
        place, file = str(Path(base).parent), {"gguf_file": Path(base).name}
        own = _owner(folders, base, "*token*")
        with _quiet():
            tokenizer = AutoTokenizer.from_pretrained(place, **file) if own == base else AutoTokenizer.from_pretrained(own)
            model, found = AutoModelForCausalLM.from_pretrained(place, dtype=dtype, output_loading_info=True, **file, **_unpacked())
        if (reader := getattr(model, "hf_quantizer", None)) is not None:
            reader.remove_quantization_config(model)  # the weights are plain tensors, and are saved as such
        return model, tokenizer, found
    shape = AutoConfig.from_pretrained(base, **options)
    if shape.model_type.startswith("minicpmv"):
        raise ModelError(f"{base}: MiniCPM-V packs all pictures of a batch into one tensor, which dyme cannot do; take another family")
    multimodal = hasattr(shape, "vision_config")
    loader = AutoModelForImageTextToText if multimodal else AutoModelForCausalLM
    own = _owner(folders, base, "*processor_config.json" if multimodal else "*token*")
    processor = _processor(own, shape.model_type, options) if multimodal else AutoTokenizer.from_pretrained(own, **options)
    if not config.trust_remote_code:
        _check_size(base, shape, loader)
    model, found = loader.from_pretrained(base, dtype=dtype, output_loading_info=True, **options)
    return model, processor, found


def _owner(folders: Sequence[Path], base: str, pattern: str) -> str:
    """Return the first of the folders with a file like `pattern`, else the base: peft itself saves no tokenizer beside an adapter."""
    return next((str(folder) for folder in folders if any(folder.glob(pattern))), base)


def _unpacked() -> dict[str, Any]:
    """Return options that ask for plain weights, which can be trained; older transformers has no other kind."""
    kind = getattr(transformers, "GgufConfig", None)
    return {"quantization_config": kind(dequantize=True)} if kind else {}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide the GGUF reader's progress bar, which no setting of transformers turns off."""
    with contextlib.redirect_stderr(io.StringIO()):
        yield


def _processor(path: str, kind_of_model: str, options: dict[str, Any]) -> Any:
    """Return the processor with its PIL image part; a video part needs torchvision; if it cannot load, only its settings are kept."""
    options = options | {"backend": "pil"}
    try:
        return AutoProcessor.from_pretrained(path, **options)
    except (ImportError, ValueError):
        kind = getattr(transformers, PROCESSOR_MAPPING_NAMES.get(kind_of_model, ""), None)
        if kind is None or "video_processor" not in kind.get_attributes():
            raise
    return without_video(kind, BaseVideoProcessor.get_video_processor_dict(path)[0]).from_pretrained(path, **options)


class _Sighted(ProcessorMixin):  # type: ignore[misc]
    """What lies between a family's class of processors and ProcessorMixin: of the family's parts, it keeps all but the video one."""

    def __init__(self, *parts: Any, **options: Any) -> None:
        by_name = dict(zip(self.all_parts, parts, strict=False)) | options
        self.video_processor = by_name.pop("video_processor")
        super().__init__(**by_name)


def without_video(kind: Any, settings: dict[str, Any]) -> Any:
    """Return a class of processors like `kind` whose video part is nothing but its settings, which are saved with it."""
    every = list(kind.get_attributes())
    kept = [name for name in every if name != "video_processor"]

    def from_parts(cls: Any, /, parts: Sequence[Any], described: dict[str, Any], **options: Any) -> Any:
        own = dict(zip(kept, parts, strict=True)) | {"video_processor": SimpleNamespace(**settings)}
        others = {name: value for name, value in described.items() if name != "video_processor"}
        return super(slim, cls).from_args_and_dict([own[name] for name in every], others, **options)

    members = {
        "all_parts": every,
        "get_attributes": staticmethod(lambda: kept),
        "from_args_and_dict": classmethod(from_parts),
        "to_dict": lambda self: kind.to_dict(self) | {"video_processor": settings},
    }
    slim: Any = type(kind.__name__, (kind, _Sighted), members)
    return slim


def attend(model: Any, attention: str) -> None:
    """Set the language model's attention; the vision tower keeps its own. Families without SDPA keep what they have."""
    if attention == "tree":
        if model.config.get_text_config()._attn_implementation != "sdpa":
            return
        register()
    chosen = NAME if attention == "tree" else attention
    model.set_attn_implementation({"text_config": chosen} if hasattr(model.config, "vision_config") else chosen)
