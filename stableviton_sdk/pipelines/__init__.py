"""Photos and garments in, pictures out."""
