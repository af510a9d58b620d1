"""The command line. `main` is what the command ``comfyclient`` runs."""
