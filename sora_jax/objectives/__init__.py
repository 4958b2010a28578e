"""Model and formula to loss."""
