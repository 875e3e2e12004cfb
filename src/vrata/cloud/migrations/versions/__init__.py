"""The steps, in order; each can be taken back."""
