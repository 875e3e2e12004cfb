"""The story of the README, told live: each step does something, looks at what came of it, and says how long it took."""
