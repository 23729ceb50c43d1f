"""What chapter_name measures: ``measure`` makes rows, ``evidence`` parts of them, ``figures`` draws them."""
