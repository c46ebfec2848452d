"""Lines for the user of a run: shown, and recorded as events of its folder. Lines from before the folder exists are recorded first."""

from __future__ import annotations

from dyme.tracking.display import Display
from dyme.tracking.run_folder import RunFolder


class Notes:
    """A function that shows and records a line; active in the main process only."""

    def __init__(self, display: Display, *, active: bool = True) -> None:
        self._display, self._active = display, active
        self._run: RunFolder | None = None
        self._early: list[str] = []

    def __call__(self, line: str) -> None:
        """Show a line and record it."""
        if not self._active:
            return
        self._display.note(line)
        if self._run is None:
            self._early.append(line)
        else:
            self._run.log_event("note", message=line)

    def begin(self, run: RunFolder) -> None:
        """Record lines in this run's folder from now on, and the earlier ones too."""
        self._run = run
        for line in self._early if self._active else ():
            run.log_event("note", message=line)
        self._early.clear()
