"""Drive the whole system from outside, as a hospital would: make studies, send them, follow them to the result.

Nothing here imports the system's own code except ``medai.router.contract``. Read first: demo/command.py.
"""
