"""Training of the try-on networks, as the authors train them."""
