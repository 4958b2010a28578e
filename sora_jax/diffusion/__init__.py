"""Formulas of diffusion on arrays: schedules, predictions, times, samplers and guidance."""
