"""Speed the forward path up on a CPU: fused blocks and LoRA, attention and threads."""
