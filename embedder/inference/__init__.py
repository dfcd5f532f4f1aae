"""Audio to embeddings and logits with members that are trained."""
