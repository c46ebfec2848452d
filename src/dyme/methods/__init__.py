"""Methods: from the verdicts of a group to the branches that the update trains on. The method is the algorithm.

`method.name` in a recipe is a key of METHODS; `dyme methods` lists them. SFT, GRPO, two-stage and DyME run through one loop, one
verifier and one budget. Plain Python, no torch. To add one, write a file like `dyme.py` that ends in a `METHOD`, and name it here.
"""

from __future__ import annotations

from dyme.methods import dyme, grpo, sft, two_stage
from dyme.methods.method import Context, Method, RoutingFunction, Stage

__all__ = ["METHODS", "Context", "Method", "RoutingFunction", "Stage"]

METHODS: dict[str, Method] = {one.name: one for one in (sft.METHOD, grpo.METHOD, two_stage.METHOD, dyme.METHOD)}
