"""The embedded tiny vision-language model: architecture, training data, the command that makes it, its weights."""
