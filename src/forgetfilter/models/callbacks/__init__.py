"""Callbacks of a training session: each is called after every step and may end the session (`training.Callback`)."""
