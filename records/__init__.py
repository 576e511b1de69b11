"""Images in, verified TFRecord shards out. See BUILD.md for the modules and their direction."""
