"""Helpers that are played by an LLM behind an OpenAI-compatible endpoint: client, cache, prompts, roles."""
