"""Lines for the user of a run: shown, and recorded as events of its folder. Those that come before there is a folder are recorded first."""

from __future__ import annotations

from dyme.tracking.display import Display
from dyme.tracking.run_folder import RunFolder


class Notes:
    """Called with a line, it shows and records the line; only the main process's are active."""

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
        """Record in this run's folder from now on, what came before included."""
        self._run = run
        for line in self._early if self._active else ():
            run.log_event("note", message=line)
        self._early.clear()
