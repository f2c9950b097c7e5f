"""Augmentation of training samples by numbered views.

protocol         Augmentation and Views, and no augmentation
shift_and_flip   every shift and mirror image, without random numbers
transform        the Protocol of a random transform
images           shift, flip, crop and erase
spectrograms     SpecAugment
mixing           mixup and cutmix with soft targets
user_function    a function of the user, or a transform of torchvision
blocks           blocks of samples for such a function
drawn_views      transforms and a mixture as K views drawn by seed
words            the augmentation of a study in words
choose           from the keys of `[data]` to views

Validation and test samples are never augmented.
"""
