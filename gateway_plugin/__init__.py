"""Defender mode: screen the queries of an OpenAI-style gateway and the answers that it serves."""
