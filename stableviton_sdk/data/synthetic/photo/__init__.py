"""Figures as shops photograph them: cropped frames, turned bodies, hidden hands, soft folds, a camera's faults."""
