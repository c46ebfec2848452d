"""The machine: files, locks, signals, terminals, processes, threads; nothing here knows what dyme does."""
