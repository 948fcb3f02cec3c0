"""Jobs on their way to a worker: the broker, the dispatch, the sweeper that sends again. Read first: dispatch.py."""
