"""dyme: teach small vision-language models to think by dynamic memorization and exploration (arXiv 2506.23061)."""
