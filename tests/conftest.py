"""Sets up TensorFlow the way the packages do, before any test file imports a part of it."""
