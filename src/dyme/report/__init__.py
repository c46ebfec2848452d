"""One self-contained HTML page from a run folder; nothing here needs torch, a server or the network."""
