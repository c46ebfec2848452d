"""Makes torchvision importable beside a CPU torch: its published build has operators for CUDA alone, and its import asks for two of them.

They are declared, without an implementation, when torchvision is about to be imported; transforms of pictures need neither.
"""

import sys
from importlib.abc import MetaPathFinder

OPERATORS = [f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor" for name in ("nms", "qnms")]


class Declaring(MetaPathFinder):
    """Finds nothing; declares the operators once, before torchvision is found by others."""

    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            sys.meta_path.remove(self)
            import torch

            sys._torchvision_operators = torch.library.Library("torchvision", "DEF")  # they live as long as it does
            for operator in OPERATORS:
                sys._torchvision_operators.define(operator)


sys.meta_path.insert(0, Declaring())
