"""What the chapter on TRIM-KV measures."""
