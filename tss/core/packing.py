"""Quiet traces made small in place: zstd with a dictionary trained on what comes by."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import attrs
from zstandard import ZstdCompressionDict, ZstdCompressor, ZstdDecompressor, ZstdError, train_dictionary

# Measured on traces of 8 spans and 3.7 kB: level 1 with a dictionary takes them to an eighth in 3.5 us, level -1 to a
# sixth in 4 us, and level 3 gains nothing. Without a dictionary it is a third, in 15 us.
LEVEL = 1
DICTIONARY_BYTES = 64 * 1024
SAMPLES = 1_000  # 300 give the same ratio here; where traffic is of more kinds, more are worth a tenth of a second
SAMPLE_BYTES = 16 * 1024  # of each; the beginning tells enough, and a few giants would be too few to train on
JUDGED = 10_000  # traces after which the ratio is looked at again
WORN = 1.3  # a dictionary that does so much worse than when it was new is trained anew: traffic has changed


class Dictionary:
    """One version of the dictionary. It lives as long as a trace packed with it.

    Packing is for one thread, the event loop's; unpacking for any, as each destination has its own.
    """

    __slots__ = ("_compressor", "_shared", "version")

    def __init__(self, version: int, trained: bytes = b"") -> None:
        self.version = version
        self._shared = ZstdCompressionDict(trained) if trained else None
        self._compressor = ZstdCompressor(LEVEL, dict_data=self._shared, write_checksum=False)
        self.unpack(self.pack(b"x"))  # the library prepares the dictionary with the first use, which must be one alone

    def __repr__(self) -> str:
        return f"<Dictionary {self.version}>"

    def pack(self, plain: bytes) -> bytes:
        """A zstd frame that knows its content's size."""
        # A copy: the library's own bytes keep the room that the frame might have needed, which is more than the content.
        return bytes(memoryview(self._compressor.compress(plain)))

    def unpack(self, frame: bytes) -> bytes:
        """What ``pack`` was given. With a decompressor of its own: the library's are not for two threads at once."""
        return ZstdDecompressor(dict_data=self._shared).decompress(frame)


@attrs.frozen(eq=False)
class Packed:
    """A frame, what is needed to open it, and the sizes of the fragments that were packed together."""

    frame: bytes = attrs.field(repr=False)
    dictionary: Dictionary
    sizes: Sequence[int] = ()  # of the pieces, in bytes; empty for a single one

    def unpack(self) -> bytes:
        """The bytes that were packed."""
        return self.dictionary.unpack(self.frame)

    def pieces(self) -> list[bytes]:
        """The same, piece by piece."""
        plain = self.unpack()
        if not self.sizes:
            return [plain]
        ends = accumulate(self.sizes)
        return [plain[end - size : end] for end, size in zip(ends, self.sizes, strict=True)]


class Packer:
    """Packs with the newest dictionary, and says when a new one is due.

    Training takes a tenth of a second, so somebody else does it, on a thread: ``samples`` gives what to train on
    when it is time, and ``use`` takes the result.
    """

    def __init__(self, max_sample_bytes: int = SAMPLES * SAMPLE_BYTES) -> None:
        self.dictionary = Dictionary(0)
        self.sample_bytes = 0  # of the samples taken
        self._max_sample_bytes = max_sample_bytes
        self._samples: list[bytes] = []
        self._wanted = True
        self._fresh_ratio = 0.0  # what the dictionary made of the first traces packed with it
        self._judged = [0, 0, 0]  # traces, bytes before, bytes after, since the ratio was last looked at

    def __repr__(self) -> str:
        return f"<Packer {self.dictionary}, a new one wanted {self._wanted}, {len(self._samples)} samples for it>"

    def pack(self, plain: bytes, sizes: Sequence[int] = ()) -> Packed:
        """Make it small; ``sizes`` are those of its pieces if there are several."""
        if self._wanted and not self._has_samples():
            sample = plain[:SAMPLE_BYTES]
            self._samples.append(sample)
            self.sample_bytes += len(sample)
        frame = self.dictionary.pack(plain)
        self._count(len(plain), len(frame))
        return Packed(frame, self.dictionary, sizes)

    def samples(self) -> Sequence[bytes]:
        """What to train the next dictionary on, once; empty while none is due."""
        if not self._wanted or not self._has_samples():
            return ()
        samples, self._samples, self.sample_bytes = self._samples, [], 0
        self._wanted = False
        return samples

    def _has_samples(self) -> bool:
        return len(self._samples) >= SAMPLES or self.sample_bytes >= self._max_sample_bytes

    def use(self, trained: bytes) -> None:
        """Pack with this dictionary from now on; when it is empty, since training found nothing, try with new samples."""
        if trained:
            self.dictionary = Dictionary(self.dictionary.version + 1, trained)
        else:
            self._wanted = True
        self._fresh_ratio = 0.0
        self._judged = [0, 0, 0]

    def _count(self, before: int, after: int) -> None:
        judged = self._judged
        judged[0] += 1
        judged[1] += before
        judged[2] += after
        if judged[0] == JUDGED:
            ratio = judged[2] / judged[1]
            self._fresh_ratio = self._fresh_ratio or ratio
            self._wanted = self._wanted or ratio > WORN * self._fresh_ratio
            self._judged = [0, 0, 0]


def train(samples: Sequence[bytes]) -> bytes:
    """A dictionary of what these have in common; empty when there is too little. Takes about a tenth of a second."""
    try:
        return train_dictionary(DICTIONARY_BYTES, list(samples)).as_bytes()
    except ZstdError:
        return b""
