"""ExperimentPlanner subclasses: what ``-pl`` names."""
