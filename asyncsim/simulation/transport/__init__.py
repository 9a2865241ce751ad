"""How messages get from one machine to another: one protocol, and a module for each kind of network."""
