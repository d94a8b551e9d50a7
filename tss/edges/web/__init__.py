"""The HTTP server: health, metrics and the admin API; whoever asks the daemon something comes in here."""
