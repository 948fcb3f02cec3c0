"""``./medai test --images``: build the images of docker-compose.yml, bring it up, read a head, take all down. First: cli.py."""
