"""The generated catalogue of the demo: drawn posters, composed plots, users with tastes. None of its films exist."""
