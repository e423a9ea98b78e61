"""Weights on and from the Hub: download, layouts, licences, errors."""
