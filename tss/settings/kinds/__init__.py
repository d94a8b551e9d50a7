"""The kinds of value a key can have: how each is read from YAML, and what it is called when a value is refused."""
