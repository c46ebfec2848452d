"""The weights are divided among the processes (PyTorch's FSDP2), with their masters, gradients and moments.

A unit for each layer of the decoder, and one for the rest: embeddings, head, projector, and a vision tower that trains. The last one is
`Policy` itself, whose forward pass calls all of these; it is whole from the beginning of that pass to the end of the backward pass. A
frozen tower stays whole on each process, because the calls to it depend on what the process has cached.

The processes add up gradients at every micro-batch, so that none of them ever has all gradients. FSDP2 averages them; a process's loss is
multiplied by the number of processes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast, reduce
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from dyme.errors import ConfigError, RunError
from dyme.model import adapters
from dyme.model.policy import Policy
from dyme.model.tree import TreeBatch
from dyme.model.vision import tower_of
from dyme.system.launch import local_count
from dyme.training.placement.placement import Build, Placement, Sections, tied
from dyme.training.precision.masters import Masters, local

FOLDER = "shards"
"""The folder of a checkpoint's state that torch.distributed.checkpoint writes."""


class Sharded(Placement):
    """A part of each weight on each process; `by` says whether all processes share them, or those of a computer ("node")."""

    def __init__(self, policy: Policy, dtype: torch.dtype, accelerator: Accelerator, build: Build, by: str) -> None:
        """Divide the policy, which computes in `dtype`, in place. Several processes start from the weights of the main one."""
        self.accelerator, self.dtype = accelerator, dtype
        mesh = mesh_of(by, accelerator)
        halved = dtype != torch.float32 and not adapters.attached(policy.model)
        for weight in policy.parameters():
            if weight.requires_grad:
                weight.data = broadcast(weight.data.float().to(accelerator.device)).to(weight.device)
            else:
                weight.data = weight.data.to(dtype)
        self.policy: Any = divide(policy, mesh, accelerator.device, dtype if halved else None)
        own = {name: weight for name, weight in self.policy.named_parameters() if weight.requires_grad}
        rounds = halved and dtype == torch.bfloat16  # float16 is rounded to the nearest as the weights are gathered
        weights = {name: weight.detach().clone() if rounds else weight for name, weight in own.items()}
        self.masters = Masters(weights, own, dtype if halved else torch.float32)
        self.optimizer = build(list(weights.values()))
        policy.whole = self.whole
        self._seen: set[str] = set()
        with self.whole():
            for name, weight in self.policy.named_parameters():
                if weight.requires_grad:
                    weight.register_post_accumulate_grad_hook(partial(self._see, name))
        held = sum(local(weight).nbytes for weight in self.policy.parameters()) + (self.masters.nbytes if rounds else 0)
        size = sum(weight.numel() for weight in self.policy.parameters() if isinstance(weight, DTensor)) * dtype.itemsize
        self.about = (
            f"weights: divided among {mesh.size(mesh.ndim - 1)} of {mesh.size()} processes (train.shard = {by}); each process has "
            f"{in_words(held)} of them, {in_words(3 * self.masters.nbytes)} of gradients and moments, and {in_words(size)} more while it "
            "samples"
        )

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Yield while each process has all weights, in the type that it computes with."""
        self.policy.reset_iter_state()
        for unit in units(self.policy):
            unit.unshard()
        self.policy.set_reshard_after_forward(False)
        try:
            yield
        finally:
            self.policy.set_reshard_after_forward(True)
            self.policy.set_reshard_after_forward(False, recurse=False)
            self.policy.reset_iter_state()  # also gives up the whole weights

    def gather_ends(self) -> None:
        """Make the weights of the policy's own unit whole."""
        self.policy.unshard()

    def backward(self, value: torch.Tensor) -> None:
        """Add the gradients of a micro-batch's loss to those so far, and divide them among the processes."""
        torch.autograd.backward(value * self.accelerator.num_processes)

    def clip(self, limit: float) -> torch.Tensor:
        """Clip the masters' gradients, and return their norm."""
        norm = torch.nn.utils.clip_grad_norm_(list(self.masters.weights.values()), limit)
        return norm.full_tensor() if isinstance(norm, DTensor) else norm

    def finite(self) -> bool:
        """Return whether all weights that train are finite, on all processes."""
        bad = torch.tensor(int(not self.masters.finite()), device=self.accelerator.device)
        return not int(reduce(bad, "sum"))

    def copied(self) -> dict[str, torch.Tensor]:
        """Return copies of this process's parts."""
        return {name: weight.detach().clone() for name, weight in self.masters.own.items()}

    def score(self, weights: Mapping[str, torch.Tensor], batch: TreeBatch, temperature: float) -> torch.Tensor:
        """Exchange the parts, compute, and exchange them again."""
        self._exchange(weights)
        try:
            scored: torch.Tensor = self.policy(batch, temperature)
        finally:
            self._exchange(weights)
        return scored

    @torch.no_grad()
    def written(self, dtype: torch.dtype) -> dict[str, torch.Tensor]:
        """Return the policy's weights in `dtype`, adapters in float32, on the main process; the others take part and get none."""
        self.policy.reset_iter_state()
        adapted = adapters.attached(self.policy.model)
        precise = {id(own): self.masters.weights[name] for name, own in self.masters.own.items() if dtype != self.dtype}
        named: dict[str, torch.Tensor] = dict(self.policy.state_dict(keep_vars=True))

        def make(value: torch.Tensor) -> torch.Tensor:
            best = precise.get(id(value), value)
            whole = best.full_tensor() if isinstance(best, DTensor) else best
            if not self.accelerator.is_main_process:
                return torch.empty(0)
            return (whole if adapted and value.requires_grad or not whole.is_floating_point() else whole.to(dtype)).detach().cpu()

        found = tied(named, id, make)
        return found if self.accelerator.is_main_process else {}

    def save(self, folder: Path, sections: Sections) -> None:
        """Write the processes' parts with the optimizer's state, each process its own; then the random numbers."""
        with _failing_alike():
            state_dict_saver.save(self._state(sections), checkpoint_id=str(folder / FOLDER))
        self.accelerator.save_state(str(folder))

    def load(self, folder: Path, sections: Sections) -> None:
        """Read the parts, of as many processes as now take part."""
        state = self._state(sections)
        with _failing_alike():
            state_dict_loader.load(state, checkpoint_id=str(folder / FOLDER))
        for name, master in self.masters.weights.items():
            self.optimizer.state[master] = {key: state[f"{key}/{name}"] for key in _MOMENTS}
        self.accelerator.load_state(str(folder))

    def _state(self, sections: Sections) -> dict[str, Any]:
        """Return all tensors of a checkpoint by name; the moments of a weight that was never moved are 0."""
        state: dict[str, Any] = {f"{section}/{name}": t.detach() for section, own in sections.items() for name, t in own.items()}
        for name, master in self.masters.weights.items():
            known = self.optimizer.state.get(master, {})
            for key, shaped in _MOMENTS.items():
                state[f"{key}/{name}"] = known[key] if key in known else shaped(master.detach())
        return state

    @torch.no_grad()
    def _exchange(self, weights: Mapping[str, torch.Tensor]) -> None:
        self.policy.reset_iter_state()  # while a unit is whole, its weights are other tensors
        for name, other in weights.items():
            own, theirs = local(self.masters.own[name]), local(other)
            kept = own.clone()
            own.copy_(theirs)
            theirs.copy_(kept)

    def _see(self, name: str, weight: torch.Tensor) -> None:
        self._seen.add(name)

    def _used(self) -> set[str]:
        return self._seen

    def _sum(self, used: set[str]) -> None:
        """Put the gradients, which are summed already, on the masters."""
        for name, master in self.masters.weights.items():
            own = self.masters.own[name]
            gradient, own.grad = own.grad, None
            master.grad = gradient if name in used else None
        self._seen.clear()


_MOMENTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "step": lambda master: torch.zeros((), device=local(master).device),
    "exp_avg": torch.zeros_like,
    "exp_avg_sq": torch.zeros_like,
}
"""AdamW's state of a weight, and what it is before the first step."""


def mesh_of(by: str, accelerator: Accelerator) -> DeviceMesh:
    """Return the processes in one row, or (by node) a row for each computer; raises ConfigError for rows of unequal lengths."""
    kind, every, here = accelerator.device.type, accelerator.num_processes, local_count()
    if by == "full" or here == every:
        return init_device_mesh(kind, (every,))
    counts = accelerator.gather(torch.tensor([here], device=accelerator.device)).tolist()
    if max(counts) == 1:
        raise ConfigError('train.shard = "node" divides nothing with one process on each computer; set train.shard = "full"')
    if len(set(counts)) > 1:
        raise ConfigError(
            f'train.shard = "node" needs equally many processes on each computer, and there are {min(counts)} on one and {max(counts)} on '
            'another; start as many on each, or set train.shard = "full"'
        )
    return init_device_mesh(kind, (every // here, here), mesh_dim_names=("nodes", "local"))


def divide(policy: Policy, mesh: DeviceMesh, device: torch.device, dtype: torch.dtype | None) -> Any:
    """Divide the policy's weights among the processes of `mesh`, in place, each on its device; they are gathered in `dtype`, unless that
    is None.
    """
    tower, whole = tower_of(policy.model), set()
    if tower is not None and policy.tower.frozen:
        whole = set(tower.to(device).parameters())
    kind = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32 if dtype else None, cast_forward_inputs=False)
    for layer in policy.model.get_decoder().layers:
        fully_shard(layer, mesh=mesh, ignored_params=whole, mp_policy=kind)
    root: Any = fully_shard(policy, mesh=mesh, ignored_params=whole, mp_policy=kind)
    root.set_reduce_scatter_unused_params(True)  # a process without pictures gives the projector no gradient
    fully_shard.state(policy)._lazy_init()  # type: ignore[attr-defined]  # now, so that the policy is the root whatever is called first
    return root


def check(policy: Policy) -> None:
    """Raise ConfigError if the policy cannot be divided with what is installed."""
    if not hasattr(FSDPModule, "set_reduce_scatter_unused_params"):
        raise ConfigError(f"train.shard needs torch 2.13 or newer, and {torch.__version__} is installed; update torch, or leave it off")
    if not isinstance(getattr(policy.model.get_decoder(), "layers", None), torch.nn.ModuleList):
        raise ConfigError(f"train.shard divides a model by its decoder's layers, and {type(policy.model).__name__} has no such list")


def units(policy: torch.nn.Module) -> list[FSDPModule]:
    """Return the parts of the policy whose weights are gathered at a time."""
    return [module for module in policy.modules() if isinstance(module, FSDPModule)]


def in_words(size: float) -> str:
    """Return a number of bytes as MiB or GiB."""
    return f"{size / 2**30:,.1f} GiB" if size >= 2**30 else f"{math.ceil(size / 2**20):,} MiB"


@contextmanager
def _failing_alike() -> Iterator[None]:
    """Raise what failed on any process, which torch.distributed.checkpoint tells all of them: an error of the operating system as such."""
    try:
        yield
    except CheckpointException as error:
        causes = [cause for cause, _ in error.failures.values()]
        cause = next((cause for cause in causes if isinstance(cause, OSError)), causes[0])
        if isinstance(cause, OSError):
            raise type(cause)(cause.errno, cause.strerror, cause.filename) if cause.errno else RunError(str(cause)) from None
        raise RunError(f"{FOLDER}: {type(cause).__name__} {cause}".strip()) from None
