"""The mock RIS: it places orders, takes results and judges them, and imports nothing else of ours.

It is an independent check of what Med-AI sends, so it has its own HL7 reader, its own checks and its own tables.
Read receiver.py first (what happens to a message on one page), then checks.py, inbox.py and orders.py.
"""
