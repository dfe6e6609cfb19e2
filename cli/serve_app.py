"""`minimind-serve`: serves artifacts by OpenAI's HTTP interface."""
