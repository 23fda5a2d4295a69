"""Synthetic cardiac MR in the data sets' own layouts: for the demo and the tests, not for training real models."""
