"""A patient's cine in, volumes over the cycle and a report out."""
