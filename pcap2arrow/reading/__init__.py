"""Reading datasets and captures as tables, and values as people write them."""
