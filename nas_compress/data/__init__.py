"""Images, labels and the three splits, as uint8 tensors that fit on the device.

>>> from nas_compress.data.loading import load_dataset
>>> digits = load_dataset(name="digits", seed=0)
>>> digits.input_shape, len(digits.train), len(digits.validation), len(digits.test)
((1, 8, 8), 1079, 359, 359)

catalogue       the data sets that ship, as a table
load            one data set by name, or from the user's own module
splits          Split, HeldOutSplit (the test images, behind one door) and Dataset
views           the finite, numbered augmentations of a whole batch
stratify        indices that keep the share of each class
assemble        from arrays to a Dataset: subset, mean and std, fingerprint
digits          scikit-learn's 8x8 digits
fashion_mnist   Zalando's 28x28 articles: find, verify or download the files
idx             the format of those files
factory         import and call the user's function
user_samples    what the user's function returned, as uint8 arrays
checks          what every split must fulfil

The search sees `train` and `validation`. `test` has neither `inputs` nor `labels`; `test.reveal(purpose=...)`
hands them out and logs why.
"""
