"""What is measured on attention calibration: ``stored`` declares, ``measure`` makes rows, ``evidence`` judges."""
