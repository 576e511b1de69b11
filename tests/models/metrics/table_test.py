"""What a table says of its images follows from its labels and probabilities."""

import numpy as np

from models.metrics.table import Table

LABELS = np.array([0, 1, 1, 2])
PROBABILITIES = np.float32([[0.5, 0.5, 0], [0.2, 0.7, 0.1], [0.6, 0.3, 0.1], [0, 0, 1]])
TABLE = Table(tuple("abcd"), ("",) * 4, np.array([7, 7, 8, 9]), LABELS, PROBABILITIES)


def test_the_most_probable_class_is_predicted_the_first_of_ties():
    assert TABLE.predicted.tolist() == [0, 1, 0, 2]


def test_confusion_has_true_classes_down():
    assert TABLE.confusion.tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 1]]


def test_its_images_know_their_groups():
    assert TABLE.images.num_groups == 3 and not TABLE.images.independent
