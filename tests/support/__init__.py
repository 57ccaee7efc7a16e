"""What several tests share: tiny models, rows to filter, files as they are published, chat templates."""
