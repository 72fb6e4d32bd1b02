"""How far a step goes: trust regions, and numbers that change while training runs."""
