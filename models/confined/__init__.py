"""Models that somebody brought: each in a process that reads its model, writes nothing and reaches nobody."""
