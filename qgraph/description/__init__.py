"""Targets that one TOML file describes: the schema, its reader, and the `Target` that follows from a description.

`schema.TABLES` and `ops.OPS` say all keys once: checks, template and documentation are made of them.
"""
