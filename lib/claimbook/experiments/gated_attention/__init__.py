"""What the chapter on gated attention measures: ``stored`` declares, ``measure`` makes rows, ``evidence`` judges."""
