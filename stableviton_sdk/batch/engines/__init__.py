"""How a batch's work is spread: over processes of this machine, or over a Ray cluster."""
