"""What watches a training session after each step, and may end it."""
