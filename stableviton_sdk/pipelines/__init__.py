"""Photos and garments in, images out."""
