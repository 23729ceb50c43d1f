"""What the chapter on secondary sinks measures: ``stored`` declares, ``measure`` makes rows, ``evidence`` judges."""
