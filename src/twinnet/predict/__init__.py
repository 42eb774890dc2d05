"""Classes of pictures, predicted by a trained model."""
