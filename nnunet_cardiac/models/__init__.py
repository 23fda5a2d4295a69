"""Trained models that are passed on: files that execute nothing, where they are installed, and the model in the box."""
