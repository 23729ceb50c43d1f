"""What is measured: real models live and stored, toys, and decoders trained on text."""
