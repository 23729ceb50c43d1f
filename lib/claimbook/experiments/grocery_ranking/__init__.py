"""What the grocery chapter measures, one module per question. What takes long is stored."""
