"""A simulated hospital around a real system: one trial from its scenario to its record. Read first: trial.py."""
