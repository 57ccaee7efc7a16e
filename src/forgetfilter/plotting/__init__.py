"""Draw charts in one style, and write tables in Markdown."""
