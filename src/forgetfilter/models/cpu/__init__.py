"""The fast path on a CPU: fused blocks and LoRA, attention, threads and the allocator."""
