"""The guard of a run's weights: an update whose loss or gradient is not finite is not taken; also the scale of the loss in float16.

All processes see the same loss and gradient norm, summed over all of them, so that they decide alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

MOST_IN_A_ROW = 5
"""Steps in a row that may be skipped for a loss or gradient that is not finite; then the run stops."""
FIRST_SCALE, GROW_AFTER = 2.0**16, 2000
"""float16: the loss is multiplied by a scale, so that small gradients are not rounded to zero. Where gradients overflow, the step is
skipped and the scale halved; after GROW_AFTER steps without, it is doubled (as torch's GradScaler has it)."""


@dataclass(slots=True)
class Guard:
    """Decides for each update whether to take it, and counts those that were not taken."""

    scaled: bool = False
    """Whether the loss is scaled: under fp16."""
    scale: float = 1.0
    taken: int = 0
    """Number of updates in a row without overflow since the scale last changed."""
    in_a_row: int = 0
    """Number of steps in a row that were skipped for another reason than the scale."""
    skipped: str = ""
    """Reason why the last update was skipped: "nonfinite", "overflow", or "" if it was taken."""
    broken: str = ""
    """Reason why the run cannot continue, or ""."""

    @classmethod
    def of(cls, precision: str) -> Guard:
        """Return the guard of a run that computes in `precision`."""
        return cls(True, FIRST_SCALE) if precision == "fp16" else cls()

    def allows(self, loss: float, norm: float) -> bool:
        """Return whether to take an update with this loss and gradient norm."""
        if math.isfinite(loss) and math.isfinite(norm):
            self.skipped, self.in_a_row, self.taken = "", 0, self.taken + 1
            if self.scaled and self.taken == GROW_AFTER:
                self.scale, self.taken = 2 * self.scale, 0
            return True
        self.skipped, self.taken = "overflow" if self.scaled and math.isfinite(loss) else "nonfinite", 0
        if self.skipped == "overflow":
            self.scale /= 2
            if self.scale < 1:
                self.broken = 'gradients overflow float16 at every scale of the loss; set train.precision = "bf16" or "fp32"'
            return False
        self.in_a_row += 1
        if self.in_a_row >= MOST_IN_A_ROW:
            self.broken = f"the loss or the gradient was not finite in {self.in_a_row} steps in a row, which were skipped"
        return False

    def metrics(self) -> dict[str, float]:
        """Return the figures that the last update adds to a step's metrics."""
        counted = {"steps_skipped_nonfinite": float(self.skipped == "nonfinite")}
        scale = {"steps_skipped_overflow": float(self.skipped == "overflow"), "loss_scale": self.scale}
        return counted | scale if self.scaled else counted

    def state(self) -> dict[str, float]:
        """Return the state that a resume needs, without the reason to end: a resumed run may try again."""
        return {"scale": self.scale, "taken": self.taken, "in_a_row": self.in_a_row % MOST_IN_A_ROW}

    def restore(self, state: dict[str, float]) -> None:
        """Restore a saved `state`."""
        self.scale, self.taken, self.in_a_row = float(state["scale"]), int(state["taken"]), int(state["in_a_row"])
