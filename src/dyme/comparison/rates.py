"""The learning rate of each method, from one grid, by think accuracy on the validation split."""

from __future__ import annotations

from dyme.comparison.cells import Cell, Note, evaluation, run_cells
from dyme.comparison.plan import Study, parse_method, traces_of


def choose_rates(study: Study, note: Note) -> tuple[dict[str, tuple[float, float | None]], dict[str, float]]:
    """(learning rate, SFT learning rate) per method, by validation accuracy at the first seed and the first trace quality.

    two_stage takes SFT's choice for its first stage and has its own grid for the second. Also returns the validation accuracy
    of every cell that was tried.
    """
    chosen: dict[str, tuple[float, float | None]] = {}
    tried: dict[str, float] = {}
    ordered = sorted(study.methods, key=lambda m: parse_method(m)[0] == "two_stage")
    for batch in ([m for m in ordered if not m.startswith("two_stage")], [m for m in ordered if m.startswith("two_stage")]):
        grid = {
            method: [
                Cell(method=method, traces=traces_of(study, method)[0], seed=study.seeds[0], learning_rate=rate, split="validation",
                     sft_learning_rate=_sft_rate(study, method, chosen.get("sft", (None, None))[0]))
                for rate in (study.rates if method != "base" else study.rates[:1])
            ]
            for method in batch
        }  # fmt: skip
        if len(study.rates) > 1:
            run_cells(study, [cell for cells in grid.values() for cell in cells if cell.method != "base"], note)
        for method, cells in grid.items():
            scores = {c: _accuracy(study, c) for c in cells} if len(cells) > 1 else {cells[0]: 0.0}
            best = max(scores, key=lambda c: scores[c])
            chosen[method] = (best.learning_rate, best.sft_learning_rate)
            tried |= {c.name: score for c, score in scores.items() if len(cells) > 1}
            note(f"{method}: learning rate {best.learning_rate:g}")
    return chosen, tried


def _sft_rate(study: Study, method: str, chosen: float | None) -> float | None:
    """Learning rate of stages that only imitate: the recipe's unless there is a grid; for two_stage else what SFT has chosen."""
    own = study.config.method.sft_learning_rate if len(study.rates) == 1 else None
    return {"sft": own, "two_stage": own or chosen}.get(parse_method(method)[0])


def _accuracy(study: Study, cell: Cell) -> float:
    found = evaluation(study, cell)
    return found["metrics"]["think_accuracy"]["value"] if found else -1.0
