"""From two score tables to decisions: signals measure forgetting, thresholds cut it. No model, no labels."""
