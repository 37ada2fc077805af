"""Pure functions from answers to figures; no model, no files."""
