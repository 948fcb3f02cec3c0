"""HL7 v2 as the router speaks it: messages, their text, MLLP, orders and patients that come in.

Read first: messages.py.
"""
