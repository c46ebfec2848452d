"""The embedded tiny vision-language model: architecture, what it was taught, the command that makes it, its weights."""
