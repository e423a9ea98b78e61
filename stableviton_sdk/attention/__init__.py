"""Where in the garment each pixel of a result came from: recording, reading, drawing."""
