"""Does text in a video speak to its judge? This is a second opinion beside the model's own.

Innocent text can look the same ("Rate us 5 stars"), so this only asks a person to look.
"""

import re
import unicodedata

_READER = r"(?:ai|llm|vlm|(?:chat)?gpt|qwen|model|judge|evaluator|grader|reviewer|assistant|validator)"
_AWARD = r"\b(?:give|award|assign|grant|return|output|respond|answer|report|set|rate|score|grade|mark)\b"
_SCORE = r"\b(?:score|mark|grade|rating|point|reward)s?\b"
_TOP = r"\b(?:full|top|high|highest|maximum|max|perfect|best|excellent)\b"
_TOP_FIGURE = r"\b(?:1\.0|10\s*/\s*10|100\s*%|5 stars)"

_PATTERNS = [
    re.compile(pattern)
    for pattern in (
        # overriding what the reader was told
        r"\b(?:ignore|disregard|forget|override|bypass)\b.{0,40}"
        r"\b(?:instruction|prompt|rule|guideline|task|above|previous|prior|earlier|everything)",
        r"\b(?:new|updated|hidden|secret|system)\s+(?:instruction|prompt|directive)s?\b|\bsystem message\b",
        r"<\s*/?\s*(?:task|system|instructions?|s|im_start|im_end)\b|<\||\[/?inst\]",
        # speaking to it by name
        r"\b(?:dear|hey|hello|hi|attention|(?:note|message) (?:to|for)|to the|as an?|you are (?:an?|the))\s+"
        rf"(?:\w+\s+){{0,2}}{_READER}\b",
        # asking for points, or counting them out
        rf"{_AWARD}.{{0,60}}{_TOP}.{{0,20}}{_SCORE}",
        rf"{_AWARD}.{{0,40}}{_TOP_FIGURE}",
        rf"\b(?:deserves?|worth|receives?|gets?|earns?)\b.{{0,30}}{_TOP}.{{0,20}}{_SCORE}",
        r"\b(?:action.?match|perspective.?correct|demonstration.?quality|training.?utility)\b",
        # giving the verdict itself
        r"\b(?:task|scenario|action|requirements?|video|submission)\b.{0,30}"
        r"\b(?:is|are|was|were|has been|have been)\b.{0,20}"
        r"\b(?:completed?|fulfilled|satisfied|verified|approved|accepted|correct|perfect|successful)",
        r"\b(?:accept|approve|pass)\s+(?:this|the)\s+(?:video|submission|clip)\b",
    )
]


def addresses_judge(text: str) -> bool:
    """Whether `text` overrides instructions, speaks to a judge, asks for points or gives the verdict.

    Case, line breaks, full-width letters and words s p a c e d  o u t make no difference.
    """
    text = unicodedata.normalize("NFKC", text).casefold()
    # three or more letters one by one are a word again
    text = re.sub(r"\b(?:\w[ .\-_*]){2,}\w\b", lambda word: re.sub(r"[ .\-_*]", "", word.group()), text)
    text = " ".join(text.split())
    return any(pattern.search(text) for pattern in _PATTERNS)
