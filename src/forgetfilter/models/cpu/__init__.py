"""Speed the forward path up on a CPU: fused blocks and LoRA, and passes side by side."""
