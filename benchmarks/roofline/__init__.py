"""How near each stage comes to what this machine's processor and memory allow, measured in the same run."""
