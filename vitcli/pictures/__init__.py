"""Pictures: a file -> an upright RGB picture -> uint8 [s s 3], the network's input."""
