"""The kinds this server knows, each as one compact schema."""
