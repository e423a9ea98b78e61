"""Attention measured against the known correspondence of rendered figures."""
