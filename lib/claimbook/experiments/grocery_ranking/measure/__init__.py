"""What is measured of the method, and of what a sceptic would run instead; all live but the growth by copies."""
