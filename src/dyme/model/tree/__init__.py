"""A prompt and its live branches as one packed sequence: the trunk once, then the branches side by side.

Each branch attends to the trunk and to itself, and its positions continue from the trunk's end, so its log-probabilities and
gradients equal those of a separate row (trunk + branch) up to rounding, while the image and question are encoded once.

    ids        t0 t1 t2 | a0 a1 a2 | b0 b1
    positions   0  1  2 |  3  4  5 |  3  4

Token n of a branch is predicted at the position before it: the trunk's last token for n = 0.

Branches behind a hint form one more level: the hint (a prefix) once, behind the trunk, and its branches behind both.

    ids        t0 t1 t2 | h0 h1 | a0 a1 a2 | b0 b1 | c0 c1        a and b behind the hint, c behind the trunk alone
    positions   0  1  2 |  3  4 |  5  6  7 |  5  6 |  3  4

Families that cannot take such a mask get the trunks as rows and then the branches as rows behind the trunks' cache (`trunk/cache.py`),
or each branch as a row behind a copy of its trunk (`training/layout.py` decides).
"""

from __future__ import annotations

from dyme.model.tree.batch import Branches, Parts, TreeBatch, collate, padded_left, parts_of, stack_vision, to_device
from dyme.model.tree.masks import block_mask, tree_mask
from dyme.model.tree.shape import Layout, Limb, Piece, Prompt, Tree

__all__ = [
    "Branches",
    "Layout",
    "Limb",
    "Parts",
    "Piece",
    "Prompt",
    "Tree",
    "TreeBatch",
    "block_mask",
    "collate",
    "padded_left",
    "parts_of",
    "stack_vision",
    "to_device",
    "tree_mask",
]
