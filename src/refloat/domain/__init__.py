"""The words of the product and the rules between them; pure values and functions."""
