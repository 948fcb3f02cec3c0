"""Models, from images to masks. Read first: registry.py."""

import os

# Threads of a network that wait for each other sleep. As libgomp has it by default they turn for milliseconds: beside
# other work on the same cores that costs several times the network itself. It is read when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
