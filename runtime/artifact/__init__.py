"""An exported model on disk: which files it has, and what they say."""
