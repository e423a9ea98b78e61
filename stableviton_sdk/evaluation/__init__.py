"""Evaluation of try-on: inference over data sets, metrics, reports."""
