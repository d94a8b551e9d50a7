"""Dead letters: whoever has a record or a trace that cannot be handled comes in here, and leaves it in a safe place."""
