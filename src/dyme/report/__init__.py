"""From a run folder to one self-contained HTML page; nothing here needs torch, a server or the network."""
