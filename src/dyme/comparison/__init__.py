"""Methods side by side, from one base and under one budget."""
