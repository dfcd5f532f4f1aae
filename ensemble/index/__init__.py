"""The songs that singers are recognised by: kept in one table, searched through FAISS."""
