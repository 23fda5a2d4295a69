"""Trainings: the recipes' losses, augmentation and schedules, how they are run, what they take, what is trusted."""
