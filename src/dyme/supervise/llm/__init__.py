"""LLM helpers behind an OpenAI-compatible endpoint: client, cache, prompts, roles."""
