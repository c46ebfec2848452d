"""What a study found, from its cell files alone: figures, tests, sentences, the map of regimes, the report."""

from dyme.comparison.findings.write import write_map, write_report

__all__ = ["write_map", "write_report"]
