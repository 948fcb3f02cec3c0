"""How good a model is: figures, comparisons, and what goes into service. Read first: evaluate.py."""
