"""What the gate (tests/run.py) is made of."""
