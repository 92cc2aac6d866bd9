"""From samples to model inputs."""
