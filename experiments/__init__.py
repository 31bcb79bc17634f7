"""Experiments: the built-in ones, and what they are made of.

digits           a small network on scikit-learn's digits; the experiment to copy
cifar10          the article's protocol: a ResNet-18, fine-tuned
label_smoothing  the smoothed targets, the loss, the arms
transfer         frozen trunk, trainable head, the training recipe
weights          where the pretrained weights come from
data, readers    the images as tensors, and subsets of them; the files that hold them
cache            downloads and decoded images, kept once
reproducible     how a training repeats bit for bit
settings         which values a setting may have
"""
