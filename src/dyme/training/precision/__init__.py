"""What half precision takes: float32 masters of the weights that train, and no update where numbers are not finite."""
