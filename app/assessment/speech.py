"""Whether a line that was read in a video may speak to the judge. Pure.

It only brings a film before a person, and only one whose task is about reading or writing: of all others the
judge sees no writing. So it may be wrong, and it knows three languages.
"""

import re
from collections.abc import Iterable

# without spaces, of which the reader leaves some out
SPEAKS = re.compile(
    r"ignoreall|ignorethe|ignoreprev|disregard|(?:all|previous|prior|these|new|my)instruct|systemmess"
    r"|judge|evaluator|reviewer|verdict|approvethis|acceptthis|fullmarks|fullscore|highscore|topmarks"
    r"|maximumscore|score[01s]|ratethis|rateit|actionmatch|demonstrationqual|trainingutil|perspectivecorr"
    r"|taskis(?:done|complete|fulfil)|outof10|忽略|无视|無視|裁判|评委|審査員|评分|打分|满分|滿分|満点|高分|任务已"
)


def find(words: Iterable[Iterable[str]]) -> str | None:
    """Return the first of the lines, by still, that may speak to the judge."""
    for lines in words:
        for line in lines:
            if SPEAKS.search(re.sub(r"[\W_]", "", line.lower())):
                return line
    return None
