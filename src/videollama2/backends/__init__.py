"""Other engines that run the same checkpoint; their packages are imported only when used."""
