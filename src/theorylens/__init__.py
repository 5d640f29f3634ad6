"""Look at a trained network through learning theory."""
