"""A page on which a model is asked questions about pictures, and shows how it thinks: `dyme play`."""
