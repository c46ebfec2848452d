"""The records of a run and its output: the run folder, with a documented schema, trackers, and the display."""
