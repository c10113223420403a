"""How good a compressed model is: scores, how sure they are, and which layers are to blame."""
