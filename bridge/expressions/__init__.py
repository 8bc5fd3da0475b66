"""The language of the table's conditions and arguments, in a sandbox. Pure."""
