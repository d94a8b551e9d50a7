"""What is made of the Helm chart: its schema, its README, the table of its secrets, its dashboard."""
