"""What is measured: simulated scans by cohort, one factor at a time, and real images with fluid painted in."""
