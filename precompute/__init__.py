"""The offline job: which pictures, on which machines, into which folder; and whether they can be made again.

`plan` → tasks; `engines` run them, here or on a Ray cluster; `work` makes one task's rows; `storage` puts a shard there
whole or not at all; `verify` makes a sample again; `publish` writes the data set. The command is `python -m precompute`.
"""
