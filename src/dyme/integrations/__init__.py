"""Trainers with the arguments of other libraries' trainers, on dyme's loop."""
