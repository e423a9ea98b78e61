"""Training of the bundled model: autoencoder, body network, decoder, assembly."""
