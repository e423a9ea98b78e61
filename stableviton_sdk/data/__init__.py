"""Data sets: real ones in their authors' folders, and rendered figures with known correspondence."""
