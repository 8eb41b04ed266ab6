"""Adapters over the vision-language models of transformers, one module a family."""
