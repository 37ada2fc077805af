"""Pure functions that compute figures from answers, without models or files."""
