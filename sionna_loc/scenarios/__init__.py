"""A place, a channel and radio numbers: one file a scenario."""
