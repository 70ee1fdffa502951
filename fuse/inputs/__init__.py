"""From a dataset folder and an embedding file to the tensors that training reads. Imports `settings`."""
