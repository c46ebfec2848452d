"""Supervision: what a memorized target says and how an explored trace is graded; so far the data's own traces."""
