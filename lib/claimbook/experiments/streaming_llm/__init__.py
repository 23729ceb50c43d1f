"""What the StreamingLLM chapter measures: ``stored`` declares, ``measure`` makes rows, ``evidence`` judges them."""
