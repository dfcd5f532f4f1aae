"""Networks that learn from songs without labels before they learn singers."""
