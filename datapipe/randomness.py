"""Seeds by use, hashes, permutations and uniform numbers: functions of a seed and a position."""

import hashlib

from records.common.backend import tf

_ROUNDS = 24  # of a permutation; each halves how far a place is from uniform
UNIFORMS = 8  # numbers of a table for each position; a multiple of 4: one Philox block gives 4
_PHILOX = 1  # tf.random.Algorithm.PHILOX


def derive_seed(seed: int, use: str) -> int:
    """Returns a 63-bit seed for one named use, so that a new use changes no other."""
    return int.from_bytes(hashlib.sha256(f"{seed} {use}".encode()).digest()[:8], "little") >> 1


def permute(
    index: tf.Tensor, seed: int, first: tf.Tensor, second: tf.Tensor, size: tf.Tensor
) -> tf.Tensor:
    """Returns the image of each index in a permutation of [0, size) keyed by (seed, first, second).

    A round pairs x with k - x modulo `size`, k random, and lets a random bit of the pair say
    whether the two change places: Hoang, Morris and Rogaway 2012, "An Enciphering Scheme Based on a
    Card Shuffle", arXiv:1208.1176. It is plain arithmetic, which XLA makes one loop of.

    Args:
        index: int64 [n], each below its size.
        first: int64 [n], key.
        second: int64 [n], key.
        size: int64 [n], at most 2^31.
    """
    # Not `RandomIndexShuffle`: it is a block cipher over 2^16 numbers at least that walks until it
    # falls below the size, so of size 10,000 it gives 4.1 million indexes a second, of size 256
    # 231,000 and of size 10 10,000, where this gives 12 million (2 cores, compiled by XLA). It also
    # cuts each key word to half the bits of the largest index: keyed with the epoch as a plain
    # counter it has 256 orders and then repeats.
    key = hash64(hash64(first, seed), second)

    def one_round(number: tf.Tensor, index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        word = hash64(key, number)
        # 32 random bits times the size, without the low 32 bits: below the size, and no division.
        high = tf.bitwise.right_shift(word, tf.constant(32, tf.uint64)) * tf.cast(size, tf.uint64)
        k = tf.cast(tf.bitwise.right_shift(high, tf.constant(32, tf.uint64)), tf.int64)
        partner = tf.where(k < index, k - index + size, k - index)
        swaps = tf.bitcast(hash64(tf.maximum(index, partner), word), tf.int64) < 0
        return number + 1, tf.where(swaps, partner, index)

    # A loop of the graph: written out, the rounds take 0.9 s to trace and 0.4 s to compile instead
    # of 0.1 and 0.2, and run 1.2 times as long.
    rounds = tf.constant(0), index
    return tf.while_loop(lambda number, _: number < _ROUNDS, one_round, rounds)[1]


def hash64(value: tf.Tensor, salt: int | tf.Tensor) -> tf.Tensor:
    """Returns uint64 [n] hashes of integers: the finalizer of SplitMix64 over value + salt.

    Steele, Lea and Flood 2014, doi:10.1145/2714064.2660195, with the constants of its mix64 variant
    13 (Stafford).
    """
    x = tf.cast(value, tf.uint64) + tf.cast(salt, tf.uint64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = tf.bitwise.bitwise_xor(x, tf.bitwise.right_shift(x, tf.constant(shift, tf.uint64)))
        x = x * tf.constant(factor, tf.uint64)
    return tf.bitwise.bitwise_xor(x, tf.bitwise.right_shift(x, tf.constant(31, tf.uint64)))


def uniforms(seed: int, positions: tf.Tensor) -> tf.Tensor:
    """Returns the lines of the table of uniform numbers that belong to consecutive positions.

    Args:
        positions: int64 [n], each one more than the one before.

    Returns:
        float32 [n, 8] in [0, 1); the line of a position does not depend on n.
    """
    # Philox is a counter-based generator (Salmon et al. 2011, doi:10.1145/2063384.2063405): block
    # number i gives 4 numbers, so the line of position p begins at block 2 p.
    first = tf.cast(positions[0] * (UNIFORMS // 4), tf.uint64)
    return tf.raw_ops.StatelessRandomUniformV2(
        shape=[tf.shape(positions)[0], UNIFORMS],
        key=tf.constant([seed], tf.uint64),
        counter=tf.stack([first, tf.constant(0, tf.uint64)]),
        alg=_PHILOX,
    )
