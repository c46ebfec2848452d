"""The machine: files, locks, signals, terminals, processes, threads; independent of the rest of dyme."""
