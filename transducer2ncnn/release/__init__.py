"""What others get of a model: an archive, a model card, a repository on the Hub."""
