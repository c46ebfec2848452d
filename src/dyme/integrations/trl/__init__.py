"""TRL: `DyMETrainer` takes the arguments of TRL's GRPOTrainer and runs dyme's loop (docs/trl.md). Needs trl: pip install 'dyme[trl]'."""

from __future__ import annotations

import importlib.util

from dyme.errors import ConfigError

if importlib.util.find_spec("trl") is None:
    raise ConfigError("dyme.integrations.trl takes another package: pip install 'dyme[trl]'")

from dyme.integrations.trl.trainer import DyMETrainer

__all__ = ["DyMETrainer"]
