"""Sampling by vLLM servers, and the way of the weights to them: a model folder that both sides see, written anew after each update.

The servers read what `Policy.save` writes, because the names of a published checkpoint are those that vLLM knows. After each change of the
weights every process compares log-probabilities: completions of one of its prompts are scored by its own forward pass, which finds
a server with other weights, another processor or another precision. The last folder stays until the next one, so that a server that was
started again in the middle of a run gets its weights back.

Randomness is the servers': one seed a prompt, so that a CPU repeats a run's completions; a GPU's depend on what else is sampled
meanwhile.
"""

from __future__ import annotations

import io
import math
import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from dyme.config import Config, RolloutConfig
from dyme.errors import RunError
from dyme.model import adapters, precision
from dyme.model.policy import Policy
from dyme.model.tree import Limb, Prompt, Tree, collate
from dyme.rollout.vllm.server import START, URL, Answer, Server, ServerGone
from dyme.system.processes import from_main, state, together
from dyme.types import Completion

REQUESTS = 64
"""Prompts that a process asks for at a time."""
FEW = 300
"""Forbidden tokens that are sent by name; of more, the allowed ones are named."""
PROBE = {"n": 8, "seed": 0, "temperature": 1.0, "max_tokens": 16, "logprobs": 0, "detokenize": False, "output_kind": 2}
"""The completions whose log-probabilities are compared, of the distribution as it is: no mask, no truncation, temperature 1."""
EXACT, CLOSE = 1e-3, 0.1
"""Largest difference of a log-probability in float32, and largest mean difference in half precision, that arithmetic explains (nats)."""
_MEMORY = Path("/dev/shm")
_PREFIX = "dyme-weights"


class Served:
    """Completions by vLLM servers of the policy's checkpoint."""

    def __init__(
        self, policy: Policy, config: Config, export: Callable[[Path], object], version: Callable[[], int],
        note: Callable[[str], object],
    ) -> None:  # fmt: skip
        """Check the servers. `export` and `version`: see `engine_of`. Raises ConfigError or RunError, alike on all processes."""
        config = precision.settled(config, next(policy.parameters()).device)
        self.policy, self.config, self.export, self.version, self.note = policy, config, export, version, note
        self.servers = [Server(url) for url in config.rollout.url or (URL,)]
        self.server: Server = self.servers[state().process_index % len(self.servers)]
        """The server that this process asks."""
        self.mismatch = math.nan
        """Largest difference of a log-probability at the last comparison, in nats."""
        self._held: int | None = None
        self._last: Path | None = None
        self._started: dict[str, str] = {}
        self._lock = threading.Lock()
        self._pngs: dict[str, list[bytes]] = {}
        together(self._meet_all)
        self._place: Path | None = None

    def refresh(self, example: Callable[[], Prompt]) -> None:
        """Send the weights to the servers if they have changed, and compare log-probabilities on an example of the prompts.

        All processes must call it. Raises RunError if the server's log-probabilities are not the model's own.
        """
        if (version := self.version()) == self._held:
            return
        self._place = self._place or from_main(self._folder)
        folder = self._place / f"{version}-{os.urandom(4).hex()}"
        self.export(folder)
        with self.policy.whole():
            from_main(partial(self._finish, folder))
            before, self._last = self._last, folder
            from_main(partial(self._load_all, folder))
            if before is not None:
                from_main(lambda: shutil.rmtree(before, ignore_errors=True))
            self._held = version
            self._compare(together(example))

    def sampling(self) -> AbstractContextManager[None]:
        """Return a context that does nothing: the servers have the weights."""
        return nullcontext()

    def sample(
        self,
        prompts: Sequence[Prompt],
        seeds: Sequence[int],
        config: RolloutConfig,
        *,
        greedy: bool = False,
        batch_rows: int = 0,
        keep: Sequence[Prompt] = (),
    ) -> list[tuple[Completion, ...]]:
        """Return K completions for each prompt (one if greedy), in order; `batch_rows` and `keep` are the server's own business.

        Raises ServerGone if the server is gone for longer than `rollout.wait_seconds`.
        """
        try:
            if self.server.identity() != self._started[self.server.url]:
                raise ServerGone(f"{self.server.url} was started again, and has not the weights of this run")
        except ServerGone as gone:
            self._revive(gone)
        settings = [_sampling(config, greedy, seed) | self._limits() for seed in seeds]
        with ThreadPoolExecutor(REQUESTS) as pool:
            answers = list(pool.map(self._complete, prompts, settings))
        return [self._completions(answer) for answer in answers]

    def _load_all(self, folder: Path) -> None:
        for server in self.servers:
            try:
                server.load(folder, self._adapter)
            except ServerGone as gone:
                self._await(server, gone)
                server.load(folder, self._adapter)

    def _meet_all(self) -> None:
        for server in self.servers:
            self._meet(server)

    def _meet(self, server: Server) -> None:
        """Check a server that was not asked before, or was started again."""
        server.ready(self.config.rollout.wait_seconds)
        server.check(log_probability_mode(self.config.rollout))
        self._started[server.url] = server.identity()

    def _complete(self, prompt: Prompt, sampling: Mapping[str, Any]) -> Answer:
        """Return a server's completions of a prompt; a server that was gone meanwhile, or is another one now, gets the weights first."""
        pictures = self._png(prompt)
        while True:
            try:
                return self.server.complete(prompt.bare, pictures, prompt.token_ids, sampling, self._adapter)
            except ServerGone as gone:
                self._revive(gone)

    def _revive(self, gone: ServerGone) -> None:
        """Wait for the server and send it the last weights, once for all threads; raises `gone` if the recipe says not to wait."""
        with self._lock:
            with suppress(ServerGone):
                if self.server.identity() == self._started[self.server.url]:
                    return
            self._await(self.server, gone)
            if self._last is not None:
                self.server.load(self._last, self._adapter)
            self.note(f"{self.server.url} answers again and has the weights of this run")

    def _await(self, server: Server, gone: ServerGone) -> None:
        """Wait for a server that is gone; raises `gone` if the recipe says not to wait."""
        if not self.config.rollout.wait_seconds:
            raise gone
        self.note(f"{gone}; waiting up to {self.config.rollout.wait_seconds:g} s for it")
        self._meet(server)

    def _folder(self) -> Path:
        """Return a new folder that the servers see; those of runs that were killed are removed."""
        asked = self.config.rollout.sync_folder
        if asked:
            place = Path(asked)
        elif _MEMORY.is_dir() and all(server.local for server in self.servers):
            place = _MEMORY
        else:
            place = Path(self.config.run.output)
        place.mkdir(parents=True, exist_ok=True)
        for left in place.glob(f"{_PREFIX}-*"):
            if not _alive(left.name.split("-")[2]):
                shutil.rmtree(left, ignore_errors=True)
        made = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}-{os.getpid()}-", dir=place.resolve()))
        weakref.finalize(self, shutil.rmtree, made, ignore_errors=True)
        return made

    def _finish(self, folder: Path) -> None:
        """Add the output embedding to a folder of weights if it is tied to the input embedding.

        A server on a CPU has a packed copy of it, which it makes anew only from weights of that name.
        """
        model = self.policy.model
        if self._adapter or not model.config.get_text_config().tie_word_embeddings:
            return
        (folder / "model.safetensors.index.json").unlink(missing_ok=True)  # it names the files that count
        head = model.get_output_embeddings().weight.detach().to("cpu", _dtype_of(folder)).clone()
        save_file({"lm_head.weight": head}, folder / "head.safetensors", metadata={"format": "pt"})

    @property
    def _adapter(self) -> bool:
        """Whether the weights that change are an adapter's."""
        return adapters.attached(self.policy.model)

    def _png(self, prompt: Prompt) -> list[bytes]:
        """Return a prompt's pictures as PNG; the last few sets are kept."""
        if not prompt.pictures:
            return []
        if (found := self._pngs.get(prompt.images)) is None:
            found = []
            for picture in prompt.pictures:
                held = io.BytesIO()
                picture.load().save(held, "PNG", compress_level=1)
                found.append(held.getvalue())
            while len(self._pngs) >= 4 * REQUESTS:
                with suppress(KeyError, RuntimeError):
                    self._pngs.pop(next(iter(self._pngs)))
            self._pngs[prompt.images] = found
        return found

    def _limits(self) -> dict[str, Any]:
        """Return the settings that end a completion and keep tokens out of it."""
        forbidden, policy = self.policy.forbidden.nonzero()[:, 0].tolist(), self.policy
        if len(forbidden) <= FEW:
            kept_out: dict[str, Any] = {"logit_bias": {str(token): -100.0 for token in forbidden}} if forbidden else {}
        else:
            kept_out = {"allowed_token_ids": (~policy.forbidden).nonzero()[:, 0].tolist()}
        return kept_out | {"stop_token_ids": list(policy.ends)}

    def _completions(self, answer: Answer) -> tuple[Completion, ...]:
        return tuple(
            Completion(text=self.policy.decode(ids).strip(), token_ids=ids, logprobs=logprobs, finished=finished)
            for ids, logprobs, finished in zip(answer.token_ids, answer.logprobs, answer.finished, strict=True)
        )

    def _compare(self, prompt: Prompt) -> None:
        """Compare the server's log-probabilities of a few completions with those of the model's own forward pass."""
        answer = together(lambda: self._complete(prompt, PROBE | {"stop_token_ids": list(self.policy.ends)}))
        pairs = [cut for ids, said in zip(answer.token_ids, answer.logprobs, strict=True) if (cut := self._allowed(ids, said))[0]]
        pairs = pairs or [((self.policy.eos,), (math.nan,))]
        gap_N = (self._scored(prompt, [ids for ids, _ in pairs]) - torch.tensor([value for _, said in pairs for value in said])).abs()
        self.mismatch, mean = float(gap_N.nan_to_num().max()), float(gap_N.nan_to_num().mean())
        exact = self.config.train.precision == "fp32"
        wrong = self.mismatch > EXACT if exact else mean > CLOSE
        first = "" if math.isnan(float(gap_N[0])) else f"{self.mismatch:.1e} at most, {mean:.1e} on average"

        def judge() -> None:
            if wrong:
                raise RunError(
                    f"{self.server.url} does not compute what the model does: log-probabilities are apart by {first}; its weights are "
                    f"stale, or it has another precision (--dtype) or other pixels (--mm-processor-kwargs); {START}"
                )

        together(judge)

    def _allowed(self, ids: Sequence[int], said: Sequence[float]) -> tuple[tuple[int, ...], tuple[float, ...]]:
        """Return a completion up to the first token that must not be sampled."""
        end = next((k for k, token in enumerate(ids) if self.policy.forbidden[token]), len(ids))
        return tuple(ids[:end]), tuple(said[:end])

    @torch.no_grad()
    def _scored(self, prompt: Prompt, completions: Sequence[tuple[int, ...]]) -> torch.Tensor:
        """Return the log-probabilities of the completions' tokens by the policy's forward pass, on the CPU."""
        policy, training = self.policy, self.policy.training
        limbs = tuple(Limb(tokens=ids, term="policy", advantage=0.0, token_weight=0.0) for ids in completions)
        policy.eval()
        policy.tower.prepare([prompt], [])
        [trunk] = policy.tower.thin([prompt])
        batch = collate([Tree(trunk=trunk, limbs=limbs)], policy.pad, "rows", policy.answer_types)
        scored: torch.Tensor = policy(batch.to(next(policy.parameters()).device))
        policy.train(training)
        return scored.float().cpu()


def log_probability_mode(config: RolloutConfig) -> str:
    """Return the server's --logprobs-mode: at temperature 1, the distribution as it is, as the update scores it.

    At another temperature only the processed ones have it in them; they are of the tokens that may be sampled alone.
    """
    return "raw_logprobs" if config.temperature == 1 else "processed_logprobs"


def _sampling(config: RolloutConfig, greedy: bool, seed: int) -> dict[str, Any]:
    """Return the sampling settings of one request."""
    kind = {"n": 1, "temperature": 0.0} if greedy else {
        "n": config.num_generations, "temperature": config.temperature, "top_p": config.top_p, "top_k": config.top_k,
    }  # fmt: skip
    return kind | {
        "seed": seed % 2**31, "max_tokens": config.max_completion_length, "logprobs": 0, "detokenize": False,
        "output_kind": 2,  # all completions at the end; else only those that end last come back
    }  # fmt: skip


def _alive(pid: str) -> bool:
    """Return whether a process of this computer lives."""
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        return True
    return True


def _dtype_of(folder: Path) -> torch.dtype:
    """Return the type of the weights in a model folder."""
    from transformers import AutoConfig

    kind = AutoConfig.from_pretrained(folder).dtype
    return kind if isinstance(kind, torch.dtype) else torch.float32
