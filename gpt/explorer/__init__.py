"""The interactive attention page: one HTML file with the model in it, and a tab in TensorBoard."""
