"""What training in half precision needs: float32 masters of the weights that train, and no update where numbers are not finite."""
