"""What a network costs: parameters, FLOPs, memory and time of a training step, time of a prediction."""
