"""Texts: read from files, divided into splits, and turned into ids of word pieces.

vocabulary  word pieces of the training texts, made once and kept
tables      texts and labels from files
own         texts and token ids from a function of the user
hashing     texts as bytes, whose words a network hashes itself
parts       texts and labels to the splits of a task
sst2        the sentences of the Stanford Sentiment Treebank
"""
