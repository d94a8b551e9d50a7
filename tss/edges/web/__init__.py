"""The HTTP server: whoever asks the daemon for its health, its metrics or its admin pages comes in here."""
