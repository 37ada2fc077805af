"""The ways of training a backbone, as Lightning modules."""
