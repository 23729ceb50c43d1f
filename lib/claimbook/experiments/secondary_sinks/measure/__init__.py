"""What is measured of texts: one module per experiment, each with its row; `found` and `inside` serve several."""
