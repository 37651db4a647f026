"""What a document may not bring about: cases of injection, declared in cases.toml, and a model that obeys them."""
