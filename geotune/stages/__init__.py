"""Ways of training a backbone."""
