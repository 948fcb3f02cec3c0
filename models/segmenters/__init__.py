"""From a volume to a label map: one module for each kind of model. Read first: base.py."""
