"""What every Kafka client shares: whoever configures one, or reads its errors, headers or offset metadata, comes in here."""
