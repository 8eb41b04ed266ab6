"""What OpenAI's and Anthropic's routes look like on the wire: bodies in, answers out, streams, errors."""
