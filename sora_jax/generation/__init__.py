"""From a trained model to videos."""
