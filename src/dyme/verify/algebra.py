"""The program of the process of `worker.py`: it reads lines of JSON (number, target, prediction) and writes lines (number, same).

Only math-verify's LaTeX grammar is used, never its reader of plain expressions, which hands text to SymPy's `parse_expr` and so to
Python's eval. The grammar itself passes numerals ("1.875") to SymPy, so in this process SymPy reads only numerals, and without
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
"""Most bytes of address space."""
_NUMERAL = re.compile(r"(Integer|Float) ?\( ?'?([0-9]+(?:\.[0-9]*)?|\.[0-9]+)'? ?\)")
"""Pattern of a numeral after SymPy's tokenizer."""


def numeral(code: str, *_: object) -> Any:
    """Return the number in `code`, in place of SymPy's eval. Raises ValueError for any other code."""
    import sympy

    found = _NUMERAL.fullmatch(code.strip())
    if not found:
        raise ValueError(f"not a number: {code}")
    return sympy.Integer(int(found[2])) if found[1] == "Integer" else sympy.Float(found[2])


def disarm() -> None:
    """Remove eval from SymPy, after loading those of its modules that define constants with it."""
    import sympy.physics.units  # noqa: F401
    from sympy.parsing import sympy_parser

    sympy_parser.eval_expr = numeral


def limit() -> None:
    """Forbid the resources that a comparison does not need."""
    try:
        import resource
    except ImportError:  # not a Unix system; the allow-list and the wall limit hold there too
        return
    for kind, most in ((resource.RLIMIT_AS, MEMORY), (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_CORE, 0)):
        with suppress(OSError, ValueError):  # macOS has no limit of addresses
            resource.setrlimit(kind, (most, resource.getrlimit(kind)[1]))


def serve() -> None:
    """Answer requests until the other side closes the pipe."""
    from math_verify import LatexExtractionConfig, parse, verify

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the other side handles Ctrl-C
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
        except (Exception, RecursionError, MemoryError):  # any error of SymPy: not equal
            same = False
        print(json.dumps({"number": request.get("number"), "same": same}), flush=True)


if __name__ == "__main__":
    serve()
