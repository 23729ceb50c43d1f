"""What is measured: toys, decoders trained on text, real models, and the authors' logs."""
