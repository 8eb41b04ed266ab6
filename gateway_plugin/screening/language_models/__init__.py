"""Reference language models: how surprising each token of a text is, from several kinds of model."""
