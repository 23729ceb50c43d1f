"""What is measured: plans and what learners gain from them, diagnosis, sessions, greedy against the optimum."""
