"""Other libraries' trainers, called as they are, on dyme's loop."""
