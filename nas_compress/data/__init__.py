"""Data sets: named tensors, their three splits, and augmentation.

>>> from nas_compress.data.load_dataset import load_dataset
>>> digits = load_dataset(name="digits", seed=0)
>>> digits.task.signature.input_names, len(digits.train), len(digits.validation), len(digits.test)
(('input',), 1079, 359, 359)

catalogue         table of the data sets that ship
loading           load a data set by name, or from a function of the user
dataset           Split, HeldOutSplit and Dataset
augment           numbered views of the training samples
stratified_split  random divisions that keep the share of each class
assemble          from arrays to a Dataset: subset, normalisation, fingerprint
digits            scikit-learn's 8x8 digits
fashion_mnist     Zalando's 28x28 articles: find, verify or download the files
store             samples that are no array, read once into the cache
torch_dataset     data sets of torch and of Hugging Face
user_data         labelled images of the user
user_task         data of a task of the user

A search reads `train` and `validation`. `test` has neither inputs nor targets; `test.reveal(purpose=...)` returns them
and logs the purpose.
"""
