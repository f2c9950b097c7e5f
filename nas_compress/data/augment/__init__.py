"""Augmentation of training samples by numbered views.

protocol         Augmentation and Views, and no augmentation
shift_and_flip   every shift and mirror image, without random numbers
transform        the Protocol of a random transform
images           shift, flip, crop and erase
spectrograms     SpecAugment
mixing           mixup and cutmix with soft targets
drawn_views      transforms and a mixture as K views drawn by seed
choose           from the keys of `[data]` to views

Validation and test samples are never augmented.
"""
