"""The report of a model: one page that says what was exported, and what that cost and gained."""
