"""Published weights to our parameters."""
