"""The networks. They know nothing of files, photos or devices."""
