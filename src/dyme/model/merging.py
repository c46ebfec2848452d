"""Adapters of kinds that dyme does not train, merged into their base by peft and checked by a forward pass, or refused by name.

Plain LoRA (`adapters.py`) can be trained on. peft's other adapters change weights in other ways (other products of matrices, whole layers
beside them, rows of the embedding), or are prompts, which no weights can hold.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from dyme.errors import ModelError

AGREEMENT = {torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.02}
"""Largest distance between the logits beside an adapter and merged with it, over their norm, that rounding explains."""
MOST_ROWS = 64
"""Trained rows of an embedding that are looked at."""
_PLAIN = re.compile(r"\.lora_(A\.weight|B\.weight|magnitude_vector(\.weight)?)$")
"""Names of the weights of plain LoRA and DoRA, rank-stabilised or not."""
BESIDE = ("layer_replication", "alora_invocation_tokens", "target_parameters", "use_bdlora", "arrow_config", "velora_config",
           "monteclora_config", "kasa_config", "use_qalora")  # fmt: skip
"""Settings of LoRA that make it another kind, whose weights are named alike."""
STARTS = (True, False, None, "gaussian", "orthogonal", "eva")
"""Ways to start an adapter that leave its base as it is."""
_UNMADE = re.compile(r"pissa_niter_\d+|corda|loftq|lora_ga", re.IGNORECASE)
"""Ways to start one that change its base, and cannot be repeated: by chance, or from data."""
_WHOLE = re.compile(r"\.(embed_tokens|lm_head)(\.base_layer|\.modules_to_save)?\.weight$")
"""Names of whole embeddings beside an adapter."""
_TWICE = re.compile(r"\.(modules_to_save|original_module)(?=\.weight$)")
"""What peft puts into the names of an embedding that it saves once more, when rows were added to it."""
_HARMLESS = ("peft_version", "revision", "auto_mapping", "_custom_modules")
"""Settings that no weight depends on."""


def plain(settings: Mapping[str, Any], names: list[str]) -> bool:
    """Return whether an adapter with these settings and weights is LoRA that can be trained on."""
    other = any(settings.get(name) for name in BESIDE) or settings.get("init_lora_weights") not in STARTS
    return settings.get("peft_type") == "LORA" and not other and all(map(_PLAIN.search, names))


def check_mergeable(settings: Mapping[str, Any], folder: Path) -> None:
    """Raise ModelError, naming the kind, for an adapter that needs more than the weights in its folder."""
    if _UNMADE.fullmatch(start := str(settings.get("init_lora_weights"))):
        raise ModelError(
            f"{folder}: began as {start}, which changed its base in a way that cannot be made again; convert it to plain LoRA where it was "
            "trained: save_pretrained(..., path_initial_model_for_weight_conversion=...)"
        )
    if settings.get("layer_replication"):
        raise ModelError(
            f"{folder}: repeats layers of its base (layer_replication), which a plain checkpoint cannot; merge it with mergekit"
        )


@torch.no_grad()
def absorb(model: Any, folder: Path, settings: Mapping[str, Any], weights: Mapping[str, torch.Tensor], ids: torch.Tensor) -> None:
    """Merge an adapter into the model, and check that its logits on `ids` [1, L] are those with the adapter beside it.

    Raises ModelError for a kind that cannot be merged, for weights that do not fit, and where the merged model differs.
    """
    kind, ids = str(settings.get("peft_type")), _with_trained_rows(ids, settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft's warnings, about what is checked here
        try:
            beside = _beside(model, folder, settings, weights)
            expected = _logits(beside, ids)
        except (ValueError, RuntimeError, LookupError, TypeError, AttributeError, ImportError, AssertionError) as error:
            raise ModelError(f"{folder}: the adapter of type {kind} does not fit its base: {_first_line(error)}") from error
        try:
            _untie(model)
            beside.merge_and_unload()
        except (ValueError, RuntimeError, LookupError, TypeError, AttributeError) as error:
            raise ModelError(f"{folder}: an adapter of type {kind} cannot be merged: {_first_line(error)}") from error
    vars(model).pop("peft_config", None)  # peft 0.18 leaves it there, as if the model still had an adapter
    settle(model)
    model.requires_grad_(True)
    if not (gap := distance(_logits(model, ids), expected)) < AGREEMENT[model.dtype]:
        raise ModelError(f"{folder}: an adapter of type {kind} cannot be merged: the logits then differ by {gap:.0%}")


def _beside(model: Any, folder: Path, settings: Mapping[str, Any], weights: Mapping[str, torch.Tensor]) -> Any:
    """Return the model with the adapter beside its weights, by peft; raises ModelError where names or kind do not fit."""
    import peft
    from peft import get_peft_model, set_peft_model_state_dict

    weights = {name: value for name, value in weights.items() if _TWICE.sub("", name) == name or _TWICE.sub("", name) not in weights}
    _resize(model, weights)
    own = {id(weight) for weight in model.parameters()}
    shape = known(settings, folder)
    if shape.is_prompt_learning or shape.is_adaption_prompt:
        raise ModelError(f"{folder}: holds an adapter of type {settings['peft_type']}, which is no change of weights and cannot be merged")
    beside: Any = get_peft_model(model, shape).eval()
    found = set_peft_model_state_dict(beside, weights)
    if lacking := _lacking(beside, found, own):
        vera = str(settings["peft_type"]).endswith("VERA")
        remedy = f"; peft before 0.21 passes over a part of what VeRA saves, and this is peft {peft.__version__}" if vera else ""
        raise ModelError(f"{folder}: the adapter does not fit its base: {len(lacking)} names differ ({lacking[0]} ...){remedy}")
    return beside


def _with_trained_rows(ids: torch.Tensor, settings: Mapping[str, Any]) -> torch.Tensor:
    """Return the tokens, and some of the tokens whose embedding rows were trained alone."""
    tokens = settings.get("trainable_token_indices") or settings.get("token_indices") or []
    rows = [row for own in tokens.values() for row in own] if isinstance(tokens, dict) else list(tokens)
    return torch.cat([ids, torch.tensor([rows[:MOST_ROWS]], dtype=ids.dtype)], 1)


@torch.no_grad()
def merge(model: Any) -> None:
    """Add the plain LoRA adapter to the weights beside it and take it out, so that the model is a plain one again."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    _untie(model)
    for name, layer in list(model.named_modules()):
        if isinstance(layer, BaseTunerLayer):
            layer.merge()
            model.set_submodule(name, layer.get_base_layer())
    del model.peft_config
    settle(model)
    model.requires_grad_(True)


def settle(model: Any) -> None:
    """Tie the embeddings again if they are alike, and have the config say whether they are."""
    inside, outside, shapes = model.get_input_embeddings(), model.get_output_embeddings(), (model.config, model.config.get_text_config())
    if outside is None or not any(getattr(shape, "tie_word_embeddings", False) for shape in shapes):
        return
    if torch.equal(inside.weight, outside.weight):
        outside.weight = inside.weight
        return
    for shape in shapes:
        shape.tie_word_embeddings = False


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    """Return the norm of the difference over the norm of `one`; nan for values that are not finite."""
    return float((one.double() - other.double()).norm() / other.double().norm())


def _resize(model: Any, weights: Mapping[str, torch.Tensor]) -> None:
    """Resize the embeddings to the number of rows of an adapter's own embeddings, which may have new tokens."""
    rows = {len(value) for name, value in weights.items() if _WHOLE.search(name)} - {model.get_input_embeddings().num_embeddings}
    if len(rows) == 1:
        model.resize_token_embeddings(rows.pop(), mean_resizing=False)


def _untie(model: Any) -> None:
    """Untie the output embedding if an adapter stands beside either embedding, because merging would change both."""
    from peft.tuners.trainable_tokens.layer import TrainableTokensLayer
    from peft.tuners.tuners_utils import BaseTunerLayer

    places = [model.get_input_embeddings(), model.get_output_embeddings()]
    bases = [place.get_base_layer() if isinstance(place, BaseTunerLayer) else place for place in places]
    beside = any(isinstance(place, BaseTunerLayer) and not isinstance(place, TrainableTokensLayer) for place in places)
    if beside and bases[0].weight is bases[1].weight:
        bases[1].weight = torch.nn.Parameter(bases[1].weight.clone(), requires_grad=False)


def known(settings: Mapping[str, Any], folder: Path) -> Any:
    """Return peft's settings; raises ModelError for a kind or a setting that this peft does not know."""
    import peft
    from peft import PeftConfig

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # their causes are refused below
        if settings.get("peft_type") not in list(peft.PeftType):
            raise ModelError(f"{folder}: holds an adapter of type {settings.get('peft_type')}, which peft {peft.__version__} does not know")
        shape = PeftConfig.from_pretrained(str(folder))
    switches = [name for name, value in settings.items() if value and isinstance(value, bool | str | list | dict)]
    if unknown := sorted(set(switches) - set(vars(shape)) - set(_HARMLESS)):
        raise ModelError(f"{folder}: has settings that peft {peft.__version__} does not know ({', '.join(unknown)}); take a later one")
    shape.inference_mode = False
    return shape


def _lacking(model: Any, found: Any, own: set[int]) -> list[str]:
    """Return names of an adapter's weights that only its file has or only the model; `own` are the base's parameters, by identity."""
    state = model.state_dict(keep_vars=True)
    loaded = {value.data_ptr() for name, value in state.items() if name not in set(found.missing_keys)}
    lacking = [name for name in found.missing_keys if id(state[name]) not in own and state[name].data_ptr() not in loaded]
    learnt = [name for name in lacking if isinstance(state[name], torch.nn.Parameter) and ".ranknum." not in name]  # AdaLoRA's counts
    return learnt + list(found.unexpected_keys)


def _logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    logits: torch.Tensor = model(input_ids=ids, use_cache=False).logits
    return logits


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
