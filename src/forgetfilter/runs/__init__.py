"""Run folders: their stages and files, their manifest, and the inputs that a run reads."""
