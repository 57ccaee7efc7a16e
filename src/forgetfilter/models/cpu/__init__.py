"""Speed the forward path up on a CPU: fused blocks and LoRA, attention, threads and the allocator."""
