"""How the bundled model is made: autoencoder, body network, decoder, assembly."""
