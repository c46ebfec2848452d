"""The facts of an image, extracted once, before training: by OCR, by an LLM, or given by the data."""
