"""A statistical language model of characters that clears most honest prompts in microseconds."""
