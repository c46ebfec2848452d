"""What is in an image, read once, before training: by OCR, by an LLM, or given by the data."""
