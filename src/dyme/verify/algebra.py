"""What `worker.py` runs in a process of its own: a line of JSON in (number, target, prediction), a line out (number, same).

Only math-verify's LaTeX grammar is used, never its reader of plain expressions, which hands text to SymPy's `parse_expr` and so to
Python's eval. The grammar itself hands over numerals ("1.875"), so in this process SymPy reads nothing but numerals, and not by
eval. The process may not write files or take much memory, where the system can forbid it.
"""

from __future__ import annotations

import json
import re
import signal
import sys
from contextlib import suppress
from typing import Any

MEMORY = 4 * 2**30
"""Bytes of address space."""
_NUMERAL = re.compile(r"(Integer|Float) ?\( ?'?([0-9]+(?:\.[0-9]*)?|\.[0-9]+)'? ?\)")
"""What SymPy's tokenizer makes of a numeral."""


def numeral(code: str, *_: object) -> Any:
    """Return the number that `code` writes down, in place of SymPy's eval of it; ValueError for all other code."""
    import sympy

    found = _NUMERAL.fullmatch(code.strip())
    if not found:
        raise ValueError(f"not a number: {code}")
    return sympy.Integer(int(found[2])) if found[1] == "Integer" else sympy.Float(found[2])


def disarm() -> None:
    """Take eval out of SymPy, after those of its modules are loaded that define constants with it."""
    import sympy.physics.units  # noqa: F401
    from sympy.parsing import sympy_parser

    sympy_parser.eval_expr = numeral


def limit() -> None:
    """Forbid what comparing does not need."""
    try:
        import resource
    except ImportError:  # not a Unix system; the allow-list and the wall limit hold there too
        return
    for kind, most in ((resource.RLIMIT_AS, MEMORY), (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_CORE, 0)):
        with suppress(OSError, ValueError):  # macOS takes no limit of addresses
            resource.setrlimit(kind, (most, resource.getrlimit(kind)[1]))


def serve() -> None:
    """Answer until the other side closes."""
    from math_verify import LatexExtractionConfig, parse, verify

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the other side's to act on
    disarm()
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
        print(json.dumps({"number": request.get("number"), "same": same}), flush=True)


if __name__ == "__main__":
    serve()
