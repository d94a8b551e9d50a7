"""Redis: whoever shares something with other replicas, or parks traces with it, comes in here."""
