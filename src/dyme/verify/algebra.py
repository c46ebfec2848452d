"""What `worker.py` runs in a process of its own: a line of JSON in (target, prediction), a line out (same).

Only math-verify's LaTeX grammar is used, never its reader of plain expressions, which hands text to SymPy's `parse_expr` and so to
Python. The process may not write files, start others or take much memory, where the system can forbid it.
"""

from __future__ import annotations

import json
import sys

MEMORY = 4 * 2**30
"""Bytes of address space."""


def limit() -> None:
    """Forbid what comparing does not need."""
    try:
        import resource
    except ImportError:  # not a Unix system; the allow-list and the wall limit hold there too
        return
    for kind, most in ((resource.RLIMIT_AS, MEMORY), (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_CORE, 0)):
        resource.setrlimit(kind, (most, resource.getrlimit(kind)[1]))


def serve() -> None:
    """Answer until the other side closes."""
    from math_verify import LatexExtractionConfig, parse, verify

    limit()
    grammar = [LatexExtractionConfig()]

    def read(text: str) -> list[object]:
        found: list[object] = parse(f"${text}$", grammar, fallback_mode="no_fallback", parsing_timeout=None)
        return found

    for line in sys.stdin:
        request = json.loads(line)
        try:
            target, prediction = read(request["target"]), read(request["prediction"])
            same = bool(target and prediction and verify(target, prediction, timeout_seconds=None))
        except (Exception, RecursionError, MemoryError):  # whatever SymPy makes of it: not equal
            same = False
        print(json.dumps({"same": same}), flush=True)


if __name__ == "__main__":
    serve()
