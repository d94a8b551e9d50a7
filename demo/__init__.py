"""`make run`: the daemon at work on made-up traffic. Not shipped with the daemon."""
