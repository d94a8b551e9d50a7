"""Redis: whoever shares decisions or force rules with other replicas, or parks traces, comes in here."""
