"""Sounds: .wav files in a folder for each class, to splits of 16-bit samples.

wave_files   files found, checked and read, without a framework
parts        splits of a folder of sounds, by speaker if their names tell
spectrogram  logarithmic mel spectrograms by NumPy
"""
