"""What the chapter on learning paths measures: planning, diagnosis, agents, retrieval."""
