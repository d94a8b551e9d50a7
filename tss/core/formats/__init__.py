"""The forms in which traces, and counts of spans, leave: pure translations, of which the heart of `core` knows nothing."""
