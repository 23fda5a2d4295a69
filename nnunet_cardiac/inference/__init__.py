"""Prediction in one call."""
