"""What the trainers' recipes are made of: losses, augmentation, schedules."""
