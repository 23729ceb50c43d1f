"""One module per paper: its method and nothing else. What is measured with it stands in ``experiments/``."""
