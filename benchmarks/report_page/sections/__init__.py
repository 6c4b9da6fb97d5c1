"""A file a section: from the records of one kind to words, tables and charts, and to answers for the top."""
