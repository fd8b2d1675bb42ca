"""What filter expressions say: texts to terms, and the names in them."""
