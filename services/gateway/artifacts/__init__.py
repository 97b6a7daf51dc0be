"""Files that jobs read or have made."""
