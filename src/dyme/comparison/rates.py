"""The learning rate of each method, from one grid, by think accuracy on the validation split."""

from __future__ import annotations

from dyme.comparison.cells import Cell, Note, evaluation, run_cells
from dyme.comparison.plan import BASE, Study, parse_method, traces_of

Rates = tuple[float, tuple[tuple[str, float | None], ...]]
"""train.learning_rate, and the method's own settings that are learning rates."""


def choose_rates(study: Study, note: Note) -> tuple[dict[str, Rates], dict[str, float]]:
    """Return the learning rates of each method, chosen by validation accuracy at the first seed and the first trace quality.

    A stage whose rate follows another method takes the rate chosen for that one, so such methods have their grid after the others. Also
    returns the validation accuracy of every cell that was tried.
    """
    chosen: dict[str, Rates] = {}
    tried: dict[str, float] = {}
    leading = [method for method in study.methods if not _leaders(study, method)]
    for batch in (leading, [method for method in study.methods if method not in leading]):
        grid = {
            method: [
                Cell(method=method, traces=traces_of(study, method)[0], seed=study.seeds[0], learning_rate=rate, split="validation",
                     tuned=_tuned(study, method, chosen))
                for rate in (study.rates if method != BASE else study.rates[:1])
            ]
            for method in batch
        }  # fmt: skip
        if len(study.rates) > 1:
            run_cells(study, [cell for cells in grid.values() for cell in cells if cell.method != BASE], note)
        for method, cells in grid.items():
            scores = {c: _accuracy(study, c) for c in cells} if len(cells) > 1 else {cells[0]: 0.0}
            best = max(scores, key=lambda c: scores[c])
            chosen[method] = (best.learning_rate, best.tuned)
            tried |= {c.name: score for c, score in scores.items() if len(cells) > 1}
            note(f"{method}: learning rate {best.learning_rate:g}")
    return chosen, tried


def _leaders(study: Study, method: str) -> list[str]:
    """Return the methods whose learning rates stages of `method` take."""
    found = study.method_of(method)
    return [name for name in found.follows.values() if name] if found else []


def _tuned(study: Study, method: str, chosen: dict[str, Rates]) -> tuple[tuple[str, float | None], ...]:
    """Return the method's settings that are learning rates: the recipe's, or, under a grid, the rates of the methods they follow."""
    found = study.method_of(method)
    if found is None:
        return ()
    own = found.settings_of(study.config_of(method))
    rates = {parse_method(name)[0]: rate for name, (rate, _) in reversed(chosen.items())}
    return tuple((key, getattr(own, key) if len(study.rates) == 1 else rates.get(leader)) for key, leader in found.follows.items())


def _accuracy(study: Study, cell: Cell) -> float:
    found = evaluation(study, cell)
    return found["metrics"]["think_accuracy"]["value"] if found else -1.0
