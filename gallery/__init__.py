"""The gallery as data: what a row is, how rows lie in parquet, how they are found again.

One row is one unit of one model under one recipe and seed, with its picture. Rows lie in parquet shards that
`datasets.load_dataset` opens; an index without the pictures answers the questions, and pictures are read from the
shards one row group at a time.
"""
