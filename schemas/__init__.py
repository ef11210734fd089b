"""What goes over the wire and into settings files: the one package that every other one may import."""
