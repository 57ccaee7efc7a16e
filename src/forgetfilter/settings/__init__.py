"""Settings: how an option is declared, and all options in groups."""
