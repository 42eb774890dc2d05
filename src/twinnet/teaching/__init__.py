"""The chapter's class and its pictures."""
