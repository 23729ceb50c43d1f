"""What is read, by tier; a chapter on language models names the paper's models and its texts here."""

SEEDS = {"smoke": 4}  # repetitions, where a tier has other than the reader's
SIZES = [25, 50, 100, 200]  # draws in an average
