"""The keys of all advisory locks of PostgreSQL. They are in one place, so that no two are the same.

Locks with one key and locks with two keys are different locks to PostgreSQL. A lock of a miner is
`hashtextextended(hotkey, seed)`, with a seed for each purpose, and so is one of a video's hash.
"""

# the schema changes ("kibo" in ASCII)
SCHEMA = 0x6B69626F
# cycles change ("cycl")
CYCLES = 0x6379636C
# fingerprints are remembered ("copy"); taken after the lock of a miner or of a hash, never before. Shared, it
# keeps what is remembered as it is.
FINGERPRINTS = 0x636F7079
# corrections are inserted, reviews and appeals opened and decided, cycles completed ("corr"); taken after all
# others
CORRECTIONS = 0x636F7272
# deliveries of webhooks are claimed, and what came of them is written ("hook")
WEBHOOKS = 0x686F6F6B

# copies are added to a gold film ("gold")
GOLD = 0x676F6C64

# the episodes of a release are chosen ("rele")
RELEASES = 0x72656C65

# first of the two keys of a periodic job ("tick"); the second is the hash of its name
TICKS = 0x7469636B

# seeds of the locks of a miner: its submissions are accepted, its uploads presigned, its results recorded,
# its appeals accepted, its webhooks registered
MINER_SUBMISSIONS = 0
MINER_PRESIGNS = 1
MINER_RESULTS = 20011
MINER_APPEALS = 2
MINER_WEBHOOKS = 3
# of a video's SHA-256: results are recorded whose bytes nobody verified
VIDEO_HASHES = 4
